"""Sentences of the small world, said in English and in Spanish, with the words of one linked to those of the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from trenza_recipes.starter_whisper.world import (
    COLOURS,
    COMMANDS,
    COURTESIES,
    DAYS,
    NUMBERS,
    PLACES,
    RELATIVE_DAYS,
    SHAPES,
    Language,
    Shape,
    spanish_plural,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """The same said twice. `links[i]` is the index of the Spanish word that English word i renders."""

    english: tuple[str, ...]
    spanish: tuple[str, ...]
    links: tuple[int, ...]

    def __add__(self, other: Sentence) -> Sentence:
        shift = len(self.spanish)
        links = self.links + tuple(link + shift for link in other.links)
        return Sentence(self.english + other.english, self.spanish + other.spanish, links)

    def words(self, language: Language) -> tuple[str, ...]:
        """The words in one language."""
        return self.english if language == "en" else self.spanish

    def text(self, language: Language) -> str:
        """The words in one language, with a space between."""
        return " ".join(self.words(language))

    def translation(self) -> tuple[str, ...]:
        """The English words that the Spanish ones are translated to: `un` and `una` are always `a` or `an`."""
        following = (*self.english[1:], "")
        return tuple(
            _indefinite(after) if word == "one" and after != "of" and self.spanish[link] in ("un", "una") else word
            for word, after, link in zip(self.english, following, self.links, strict=True)
        )


def _indefinite(following: str) -> str:
    """The indefinite article before a word of this world."""
    return "an" if following == "orange" else "a"


def phrase(english: str, spanish: str, links: tuple[int, ...] | None = None) -> Sentence:
    """A piece of a sentence; without links, word follows word, and the last Spanish word stands for what is over."""
    said, meant = tuple(english.split()), tuple(spanish.split())
    if links is None:
        links = tuple(min(i, len(meant) - 1) for i in range(len(said)))
    return Sentence(said, meant, links)


def contracted(sentence: Sentence) -> Sentence:
    """The sentence with every `de el` as `del`."""
    for i in range(len(sentence.spanish) - 1):
        if sentence.spanish[i : i + 2] == ("de", "el"):
            spanish = (*sentence.spanish[:i], "del", *sentence.spanish[i + 2 :])
            links = tuple(link - (link > i) for link in sentence.links)
            return contracted(Sentence(sentence.english, spanish, links))
    return sentence


_DETERMINERS = (("a", "un", "una"), ("the", "el", "la"), ("one", "un", "una"))
_COLOURED_SHARE = 0.8


def _noun(dice: random.Random, shape: Shape, plural: bool) -> Sentence:
    """A shape, mostly with a colour: `red star`, `estrella roja`."""
    english = shape.english + "s" * plural
    spanish = spanish_plural(shape.spanish) if plural else shape.spanish
    if dice.random() > _COLOURED_SHARE:
        return phrase(english, spanish)
    colour = dice.choice(COLOURS)
    return phrase(f"{colour.english} {english}", f"{spanish} {colour.spanish(shape.feminine, plural)}", (1, 0))


def one_thing(dice: random.Random, determiner: int | None = None) -> Sentence:
    """`a red star`, `the circle`, `one blue square`."""
    english, masculine, feminine = _DETERMINERS[dice.randrange(3) if determiner is None else determiner]
    shape = dice.choice(SHAPES)
    noun = _noun(dice, shape, plural=False)
    article = _indefinite(noun.english[0]) if english == "a" else english
    return phrase(article, feminine if shape.feminine else masculine) + noun


def many_things(dice: random.Random, definite: bool = False) -> Sentence:
    """`three blue squares`, `the three stars`."""
    shape = dice.choice(SHAPES)
    counted = phrase(*dice.choice(NUMBERS[2:])) + _noun(dice, shape, plural=True)
    return (phrase("the", "las" if shape.feminine else "los") + counted) if definite else counted


def _all_things(dice: random.Random) -> Sentence:
    shape = dice.choice(SHAPES)
    return phrase("the", "las" if shape.feminine else "los") + _noun(dice, shape, plural=True)


def _things(dice: random.Random) -> Sentence:
    """One or many, in two cases of five joined to others."""
    first = one_thing(dice) if dice.random() < 0.5 else many_things(dice)
    if dice.random() < 0.6:
        return first
    return first + phrase("and", "y") + (one_thing(dice) if dice.random() < 0.5 else many_things(dice))


def _numbers(dice: random.Random) -> Sentence:
    chosen = [phrase(*dice.choice(NUMBERS)) for _ in range(dice.choice((1, 2, 2, 3, 3, 4, 5, 6)))]
    if len(chosen) > 1 and dice.random() < 0.3:
        chosen.insert(-1, phrase("and", "y"))
    return _joined(chosen)


def _joined(pieces: list[Sentence]) -> Sentence:
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return whole


def _command(dice: random.Random) -> Sentence:
    return phrase(*dice.choice(COMMANDS)) + _things(dice)


def _there(dice: random.Random) -> Sentence:
    if dice.random() < 0.4:
        return phrase("there is", "hay", (0, 0)) + one_thing(dice, determiner=dice.choice((0, 2)))
    things = many_things(dice)
    if dice.random() < 0.4:
        things += phrase("and", "y") + (many_things(dice) if dice.random() < 0.5 else one_thing(dice, 2))
    return phrase("there are", "hay", (0, 0)) + things


_RELATIONS = (
    phrase("is above", "está encima de"),
    phrase("is below", "está debajo de"),
    phrase("is left of", "está a la izquierda de", (0, 3, 4)),
    phrase("is right of", "está a la derecha de", (0, 3, 4)),
)
_SPOTS = (
    phrase("is above", "está arriba"),
    phrase("is below", "está abajo"),
    phrase("is on the left", "está a la izquierda"),
    phrase("is on the right", "está a la derecha"),
)


def _relation(dice: random.Random) -> Sentence:
    if dice.random() < 0.3:
        return one_thing(dice, 1) + dice.choice(_SPOTS)
    return contracted(one_thing(dice, 1) + dice.choice(_RELATIONS) + one_thing(dice, 1))


def _colour_of(dice: random.Random) -> Sentence:
    """`the star is red`, `the circles are blue`."""
    shape, colour, plural = dice.choice(SHAPES), dice.choice(COLOURS), dice.random() < 0.5
    form = colour.spanish(shape.feminine, plural)
    if plural:
        noun = phrase(shape.english + "s", spanish_plural(shape.spanish))
        return phrase("the", "las" if shape.feminine else "los") + noun + phrase(f"are {colour.english}", f"son {form}")
    noun = phrase(shape.english, shape.spanish)
    return phrase("the", "la" if shape.feminine else "el") + noun + phrase(f"is {colour.english}", f"es {form}")


def _one_of(dice: random.Random) -> Sentence:
    things = _all_things(dice)
    one = phrase("one of", "una de" if things.spanish[0] == "las" else "uno de")
    whole = one + things
    return phrase(*dice.choice(COMMANDS)) + whole if dice.random() < 0.4 else whole


def _days(dice: random.Random) -> Sentence:
    if dice.random() < 0.7:
        return phrase(*dice.choice(RELATIVE_DAYS[:2])) + phrase("is", "es") + phrase(*dice.choice(DAYS))
    first, second = dice.sample(DAYS + RELATIVE_DAYS, 2)
    return phrase(*first) + phrase("and", "y") + phrase(*second)


def _places(dice: random.Random) -> Sentence:
    """`left and right`, where Spanish has `e` for `y` before an i."""
    first, second = dice.sample(PLACES, 2)
    return phrase(*first) + phrase("and", "e" if second[1].startswith("i") else "y") + phrase(*second)


def _courtesy(dice: random.Random) -> Sentence:
    first, second = dice.sample(COURTESIES, 2)
    return phrase(*first) + phrase(*second)


WORDS = tuple(
    phrase(*pair)
    for pairs in (NUMBERS, DAYS, RELATIVE_DAYS, COMMANDS, PLACES, COURTESIES)
    for pair in pairs
) + tuple(phrase(colour.english, colour.masculine) for colour in COLOURS) + tuple(
    phrase(shape.english, shape.spanish) for shape in SHAPES
)  # fmt: skip
"""Everything that is said alone: words and two courtesies of two words."""


def single_word(dice: random.Random) -> Sentence:
    """One word alone, or `thank you`, `por favor`."""
    return dice.choice(WORDS)


_KINDS: tuple[tuple[Callable[[random.Random], Sentence], float], ...] = (
    (_numbers, 0.15), (_things, 0.18), (_command, 0.2), (_there, 0.12), (_relation, 0.11), (_colour_of, 0.06),
    (_one_of, 0.04), (_days, 0.07), (_courtesy, 0.02), (_places, 0.01), (single_word, 0.05),
)  # fmt: skip
_LONGEST_WITH_COURTESY = 7


def any_sentence(dice: random.Random) -> Sentence:
    """A word or a sentence, one in six with a courtesy before or after it."""
    makers, weights = zip(*_KINDS, strict=True)
    sentence: Sentence = dice.choices(makers, weights)[0](dice)
    words = len(sentence.english)
    if not 1 < words <= _LONGEST_WITH_COURTESY or dice.random() > 0.17:
        return sentence
    courtesies = [phrase(*pair) for pair in COURTESIES]
    if dice.random() < 0.5 and sentence.english[-1] != "please":
        return sentence + courtesies[5]
    return dice.choice(courtesies[:3]) + sentence
