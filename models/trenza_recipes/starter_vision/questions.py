"""Questions about scenes, and their answers, together with the figures that each part of an answer is about."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from trenza_recipes.starter_chat.words import ORDINARY_WORDS
from trenza_recipes.starter_draw.world import SHAPES, Colour, Shape
from trenza_recipes.starter_vision.english import ENGLISH
from trenza_recipes.starter_vision.held_out import question_is_held_out
from trenza_recipes.starter_vision.language import LanguageName, Words
from trenza_recipes.starter_vision.spanish import SPANISH
from trenza_recipes.starter_vision.world import (
    FIGURE_COLOURS,
    GROUNDS,
    MOST_FIGURES,
    SIDES,
    Ground,
    Scene,
    Side,
    asked_side,
    is_on_side,
    place_of,
    side_of,
)

LANGUAGES: dict[LanguageName, Words] = {"en": ENGLISH, "es": SPANISH}

Segment = tuple[str, tuple[int, ...]]
"""A piece of an answer, from one space to before another, and the indexes of the figures it is read from."""

BACKGROUND = (-1,)
"""Stands for the indexes of figures where something is read from the background."""


@dataclass(frozen=True)
class Question:
    """A question and the answer to it; `wording` and `subject` together decide whether it is held out.

    `against` is the index of the figure that the answer tells the place of another one from, where it does.
    """

    kind: str
    language: LanguageName
    text: str
    answer: tuple[Segment, ...]
    wording: str
    subject: str
    against: int | None = None

    @property
    def said(self) -> str:
        """The answer as text."""
        return "".join(text for text, _ in self.answer)

    @property
    def held_out(self) -> bool:
        """Whether training never asks this so."""
        return question_is_held_out(self.wording, self.subject)


def _joined(words: Words, parts: Sequence[Segment]) -> list[Segment]:
    """ "a", "a and b", "a, b and c"."""
    found: list[Segment] = []
    for index, part in enumerate(parts):
        if index and index == len(parts) - 1:
            found.append((f" {words.conjunction}", ()))
        elif index:
            found.append((",", ()))
        found.append(part)
    return found


def _start(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """An answer that begins with a capital and without a space."""
    first, *rest = segments
    text = first[0].strip()
    return ((text[0].upper() + text[1:], first[1]), *rest)


def _beside(words: Words, side: Side, colour: Colour | None, shape: Shape | None) -> str:
    """ "above the red star", "encima de la estrella roja"."""
    other = words.the(colour, shape, False) if words.name == "en" else words.of_the(colour, shape)
    return f"{words.sides[side]} {other}"


def _asked_beside(words: Words, rng: random.Random, side: Side) -> str:
    return rng.choice(words.asked_sides[side])


class Asker:
    """Asks about one scene in one language."""

    def __init__(self, scene: Scene, language: LanguageName, rng: random.Random) -> None:
        self.scene, self.language, self.rng = scene, language, rng
        self.words = LANGUAGES[language]
        self.figures = scene.figures

    def ask(self, kind: str) -> Question | None:
        """A question of a kind, or None where the scene gives no plain answer to one."""
        return _KINDS[kind](self)

    def _asked(
        self, kind: str, answer: Iterable[Segment], subject: str, wording_kind: str = "", **named: str
    ) -> Question:
        wording = self.rng.choice(self.words.questions[wording_kind or kind])
        text = wording.format(**named)
        return Question(kind, self.language, text, tuple(answer), f"{self.language} {wording}", subject)

    def _matching(self, colour: Colour | None, shape: Shape | None) -> tuple[int, ...]:
        return tuple(
            index
            for index, figure in enumerate(self.figures)
            if colour in (None, figure.colour) and shape in (None, figure.shape)
        )

    def _name(self, index: int) -> tuple[Colour | None, Shape | None] | None:
        """A way to name a figure that fits no other one, or None."""
        figure = self.figures[index]
        ways: list[tuple[Colour | None, Shape | None]] = [
            (None, figure.shape),
            (figure.colour, figure.shape),
            (figure.colour, None),
        ]
        fitting = [way for way in ways if self._matching(*way) == (index,)]
        return self.rng.choices(fitting, [1 if way[1] is None else 3 for way in fitting])[0] if fitting else None

    def _a(self, index: int) -> Segment:
        figure = self.figures[index]
        return f" {self.words.a(figure.colour, figure.shape)}", (index,)

    def describe(self) -> Question:
        words, answers, count = self.words, self.words.answers, len(self.figures)
        said: list[Segment]
        if count == 0:
            said = [(answers["no figures"], ())]
        elif count == 1:
            said = [(answers["one"], ()), self._a(0), (".", ())]
        elif count == 2:
            first, second = self.figures
            across, down = abs(first.x - second.x), abs(first.y - second.y)
            side: Side = "left" if across >= down else "above"
            of = "" if words.name == "en" else " de"
            said = [(answers["one"], ()), self._a(0), (f" {words.sides[side]}{of}", (0,)), self._a(1), (".", ())]
        else:
            figures = words.figure(None, None, True)
            said = [
                (answers["several"], ()),
                (f" {words.number(count, None)}", tuple(range(count))),
                (f" {figures}:", ()),
            ]
            said += [*_joined(words, [self._a(index) for index in range(count)]), (".", ())]
        return self._asked("describe", said, f"{count}")

    def _unique(self, values: Sequence[str]) -> list[tuple[int, ...]]:
        """The indexes of figures that have each value, in the order in which the values appear."""
        return [tuple(i for i, v in enumerate(values) if v == value) for value in dict.fromkeys(values)]

    def shapes(self) -> Question | None:
        if not self.figures:
            return None
        words = self.words
        groups = self._unique([figure.shape for figure in self.figures])
        parts = [(f" {words.a(None, self.figures[group[0]].shape)}", group) for group in groups]
        kind = "shape" if len(self.figures) == 1 and self.rng.random() < 0.5 else "shapes"
        return self._asked("shapes", [*_start(_joined(words, parts)), (".", ())], f"{len(groups)}", kind)

    def colours(self) -> Question | None:
        if not self.figures:
            return None
        words = self.words
        groups = self._unique([figure.colour for figure in self.figures])
        parts = [(f" {words.coloured(self.figures[g[0]].colour, None, False)}", g) for g in groups]
        kind = "colour" if len(self.figures) == 1 and self.rng.random() < 0.5 else "colours"
        return self._asked("colours", [*_start(_joined(words, parts)), (".", ())], f"{len(groups)}", kind)

    def colour_of(self) -> Question:
        words, shape = self.words, self.rng.choice(SHAPES)
        if self.figures and self.rng.random() < 0.9:
            shape = self.rng.choice(self.figures).shape
        matching = self._matching(None, shape)
        several = len(matching) > 1
        named = {"the": words.the(None, shape, False), "of_the": words.of_the(None, shape)}
        if not matching:
            return self._asked("colour of", self._absent(None, shape), f"{shape} none", **named)
        groups = [
            tuple(matching[i] for i in group) for group in self._unique([self.figures[m].colour for m in matching])
        ]
        parts = [(f" {words.coloured(self.figures[g[0]].colour, shape, several)}", g) for g in groups]
        is_are = words.answers["are" if several else "is"]
        said = [
            (words.the(None, shape, several), matching),
            (f" {is_are}", matching),
            *_joined(words, parts),
            (".", ()),
        ]
        subject = f"{shape} {self.figures[matching[0]].colour}"
        return self._asked("colour of", _start(said), subject, **named)

    def _absent(self, colour: Colour | None, shape: Shape | None) -> list[Segment]:
        words = self.words
        if words.name == "en":
            return [("There is", ()), (" no", ()), (f" {words.figure(colour, shape, False)}", ()), (".", ())]
        none = f" {words.number(0, shape)}"
        return [("No hay", ()), (none, ()), (f" {words.figure(colour, shape, False)}", ()), (".", ())]

    def shape_of(self) -> Question | None:
        if not self.figures:
            return None
        words, colour = self.words, self.rng.choice(self.figures).colour
        matching = self._matching(colour, None)
        groups = [tuple(matching[i] for i in g) for g in self._unique([self.figures[m].shape for m in matching])]
        parts = [(f" {words.a(colour, self.figures[g[0]].shape)}", g) for g in groups]
        named = {
            "the": words.the(colour, None, False),
            "of_the": words.of_the(colour, None),
            "colour": words.coloured(colour, None, False),
        }
        subject = f"{colour} {self.figures[matching[0]].shape}"
        return self._asked("shape of", [*_start(_joined(words, parts)), (".", ())], subject, **named)

    def _asked_kind(self) -> tuple[Colour | None, Shape | None]:
        """A kind of figure to ask for, mostly one that is there."""
        colour, shape = self.rng.choice(FIGURE_COLOURS), self.rng.choice(SHAPES)
        if self.figures and self.rng.random() < 0.75:
            figure = self.rng.choice(self.figures)
            colour, shape = figure.colour, figure.shape
            if self.rng.random() < 0.15:
                shape = self.rng.choice(SHAPES)
        return self.rng.choice(((None, None), (None, shape), (None, shape), (colour, None), (colour, shape)))

    def count(self) -> Question:
        words, rng = self.words, self.rng
        colour, shape = self._asked_kind()
        matching = self._matching(colour, shape)
        named = words.figure(colour, shape, True)
        if words.name == "en" and shape is None and rng.random() < 0.5:
            named = named.replace("figure", rng.choice(("shape", "object")))
        said = self._number_said(colour, shape, matching)
        feminine = words.name == "es" and shape in ("star", None)
        fields = {
            "figures": named,
            "many": "Cuántas" if feminine else "Cuántos",
            "o": "a" if feminine else "o",
            "all": words.the(colour, shape, True),
        }
        return self._asked("count", said, f"{colour} {shape} {len(matching)}", **fields)

    def _number_said(self, colour: Colour | None, shape: Shape | None, matching: tuple[int, ...]) -> list[Segment]:
        words, number = self.words, len(matching)
        if number == 0:
            if words.name == "en":
                return [
                    ("There", ()),
                    (" are", ()),
                    (" no", ()),
                    (f" {words.figure(colour, shape, True)}", ()),
                    (".", ()),
                ]
            return self._absent(colour, shape)
        verb = " is" if number == 1 else " are"
        lead: list[Segment] = [("There", matching), (verb, matching)] if words.name == "en" else [("Hay", matching)]
        named = words.figure(colour, shape, number > 1)
        return [*lead, (f" {words.number(number, shape)}", matching), (f" {named}", ()), (".", ())]

    def where(self) -> Question | None:
        """Where a figure is: in the picture where it is alone, beside the other where there are two."""
        words = self.words
        if not 1 <= len(self.figures) <= 2:
            return None
        index = self.rng.randrange(len(self.figures))
        name = self._name(index)
        if name is None:
            return None
        verb = "is" if words.name == "en" else "está"
        named = {"the": words.the(*name, False), "of_the": words.of_the(*name)}
        head: list[Segment] = [(words.the(*name, False), (index,)), (f" {verb}", (index,))]
        if len(self.figures) == 1:
            place = place_of(self.figures[0], self.scene)
            if place is None:
                return None
            said = [*head, (f" {words.places[place]}", (0,)), (".", ())]
            return self._asked("where", _start(said), f"{name} {place}", **named)
        other, side = self.figures[1 - index], side_of(self.figures[index], self.figures[1 - index])
        other_name = self._other_name(1 - index, name)
        if side is None or other_name is None:
            return None
        said = [*head, (f" {_beside(words, side, *other_name)}", (index,)), (".", ())]
        asked = self._asked("where", _start(said), f"{name} {side} {other.shape}", **named)
        return replace(asked, against=1 - index)

    def _other_name(
        self, index: int, first: tuple[Colour | None, Shape | None]
    ) -> tuple[Colour | None, Shape | None] | None:
        """The name of the second figure of a sentence, made like the first's, and alone in fitting it."""
        figure = self.figures[index]
        ways = [
            (figure.colour if first[0] else None, figure.shape if first[1] else None),
            (figure.colour, figure.shape),
        ]
        return next((way for way in ways if self._matching(*way) == (index,)), None)

    def _pair(self) -> tuple[int, int, tuple[Colour | None, Shape | None], tuple[Colour | None, Shape | None]] | None:
        if len(self.figures) < 2:
            return None
        first, second = self.rng.sample(range(len(self.figures)), 2)
        name = self._name(first)
        other = self._other_name(second, name) if name else None
        return None if name is None or other is None else (first, second, name, other)

    def relation(self) -> Question | None:
        words, pair = self.words, self._pair()
        if pair is None:
            return None
        first, second, name, other = pair
        side = side_of(self.figures[first], self.figures[second])
        if side is None:
            return None
        verb = "is" if words.name == "en" else "está"
        said: list[Segment] = [(words.the(*name, False), (first,)), (f" {verb}", (first,))]
        said += [(f" {_beside(words, side, *other)}", (first,)), (".", ())]
        asked = self._asked("relation", _start(said), f"{name} {side}", **self._pair_named(name, other))
        return replace(asked, against=second)

    def _pair_named(
        self, name: tuple[Colour | None, Shape | None], other: tuple[Colour | None, Shape | None]
    ) -> dict[str, str]:
        words = self.words
        the_other = words.the(*other, False)
        the = words.the(*name, False)
        return {
            "the": the,
            "The": the[0].upper() + the[1:],
            "the_other": the_other,
            "of_the_other": words.of_the(*other),
            "to_the_other": "al" + the_other[2:] if the_other.startswith("el ") else f"a {the_other}",
        }

    def beside(self) -> Question | None:
        words = self.words
        if not self.figures:
            return None
        index, side = self.rng.randrange(len(self.figures)), self.rng.choice(SIDES)
        name = self._name(index)
        if name is None:
            return None
        plain, found = asked_side(self.figures, index, side)
        if found is None and self.rng.random() < 0.6:
            return None
        if not plain:
            return None
        asked = _asked_beside(words, self.rng, side)
        named = {"the": words.the(*name, False), "of_the": words.of_the(*name), "side": asked}
        if found is None:
            place = (f" {_beside(words, side, *name)}", ())
            said: list[Segment] = [(words.answers["nothing"], (index,)), place, (".", ())]
        else:
            figure = self.figures[found]
            said = [*_start([(words.a(figure.colour, figure.shape), (index,))]), (".", ())]
        return self._asked("beside", said, f"{name} {asked} {found is None}", **named)

    def ground(self) -> Question:
        words, colour = self.words, self.scene.background
        said: list[Segment] = [
            (words.answers["background"], ()),
            (f" {words.coloured(colour, 'circle', False)}", BACKGROUND),
        ]
        return self._asked("ground", [*said, (".", ())], colour)

    def is_there(self) -> Question:
        words, rng = self.words, self.rng
        colour, shape = self._presence()
        matching = self._matching(colour, shape)
        subject = f"{colour} {shape} {bool(matching)}"
        feminine = words.name == "es" and shape in ("star", None)
        several = rng.random() < 0.25
        named = {"a": words.a(colour, shape), "figures": words.figure(colour, shape, True)}
        answers = words.answers
        if matching:
            number = words.number(len(matching), shape) if len(matching) > 1 else ""
            verb = answers["there are" if number else "there is"]
            count = f" {number} {words.figure(colour, shape, True)}" if number else f" {words.a(colour, shape)}"
            said: list[Segment] = [(answers["yes"], matching), (f" {verb}", matching), (count, matching), (".", ())]
        else:
            no = answers["not so"] + ((" ninguna" if feminine else " ningún") if words.name == "es" else "")
            said = [(answers["no"], ()), (f" {no}", ()), (f" {words.figure(colour, shape, False)}", ()), (".", ())]
        return self._asked("is there", said, subject, "are there" if several else "is there", **named)

    def _presence(self) -> tuple[Colour | None, Shape | None]:
        """Something to look for: in half of the cases it is there, else often something like what is there."""
        rng = self.rng
        colour, shape = rng.choice(FIGURE_COLOURS), rng.choice(SHAPES)
        if self.figures:
            figure = rng.choice(self.figures)
            chance = rng.random()
            if chance < 0.5:
                colour, shape = figure.colour, figure.shape
            elif chance < 0.65:
                colour = figure.colour
            elif chance < 0.8:
                shape = figure.shape
        return rng.choice(((None, shape), (colour, shape), (colour, shape), (colour, None)))

    def is_it(self) -> Question | None:
        """Whether a figure has a colour; asked only of a shape that is there once."""
        words, rng = self.words, self.rng
        shapes = [f.shape for f in self.figures if len(self._matching(None, f.shape)) == 1]
        if not shapes:
            return None
        shape = rng.choice(shapes)
        (index,) = self._matching(None, shape)
        true = self.figures[index].colour
        colour = true if rng.random() < 0.5 else rng.choice([f.colour for f in self.figures] + list(FIGURE_COLOURS))
        the = words.the(None, shape, False)
        named = {"the": the, "The": the[0].upper() + the[1:], "colour": words.coloured(colour, shape, False)}
        yes = (words.answers["yes" if colour == true else "no"], (index,))
        said: list[Segment] = [yes, (f" {the}", (index,)), (f" {words.answers['is']}", (index,))]
        said += [(f" {words.coloured(true, shape, False)}", (index,)), (".", ())]
        return self._asked("is it", said, f"{shape} {colour} {colour == true}", **named)

    def is_ground(self) -> Question:
        words, true = self.words, self.scene.background
        others = [*GROUNDS, *(figure.colour for figure in self.figures)]
        colour: Ground = true if self.rng.random() < 0.5 else self.rng.choice(others)
        named = {"colour": words.coloured(colour, "circle", False)}
        said: list[Segment] = [(words.answers["yes" if colour == true else "no"], BACKGROUND)]
        said += [
            (f" {words.answers['the background']}", ()),
            (f" {words.coloured(true, 'circle', False)}", BACKGROUND),
            (".", ()),
        ]
        return self._asked("is ground", said, f"{colour} {colour == true}", **named)

    def is_beside(self) -> Question | None:
        words, rng, pair = self.words, self.rng, self._pair()
        if pair is None:
            return None
        first, second, name, other = pair
        true = side_of(self.figures[first], self.figures[second])
        opposite: dict[Side, Side] = {"left": "right", "right": "left", "above": "below", "below": "above"}
        if true is None:
            return None
        side = true if rng.random() < 0.5 else rng.choice((opposite[true], opposite[true], rng.choice(SIDES)))
        so = is_on_side(self.figures[first], self.figures[second], side)
        if so is None or (so and side != true):
            return None
        side_asked = _asked_beside(words, rng, side)
        verb = "is" if words.name == "en" else "está"
        named = self._pair_named(name, other) | {"side": side_asked}
        said: list[Segment] = [(words.the(*name, False), (first,)), (f" {verb}", (first,))]
        said += [(f" {_beside(words, true, *other)}", (first,)), *self._verdict(so)]
        asked = self._asked("is beside", _start(said), f"{name} {side_asked} {so}", **named)
        return replace(asked, against=second)

    def _verdict(self, so: bool) -> list[Segment]:
        """The end of an answer that says first how things are: whether they are as was asked can be read off that."""
        return [(",", ()), (f" {self.words.answers['so yes' if so else 'so no']}", ()), (".", ())]

    def are_so_many(self) -> Question:
        words, rng = self.words, self.rng
        colour, shape = self._asked_kind()
        matching = self._matching(colour, shape)
        true = len(matching)
        near = [number for number in (true - 1, true + 1, true + 2) if 2 <= number <= MOST_FIGURES]
        asked = true if true > 1 and rng.random() < 0.5 else rng.choice(near)
        named = {"number": words.number(asked, shape), "figures": words.figure(colour, shape, True)}
        said = [*self._number_said(colour, shape, matching)[:-1], *self._verdict(asked == true)]
        return self._asked("are so many", said, f"{colour} {shape} {asked} {true}", **named)

    def other(self) -> Question:
        if self.rng.random() < 0.25:
            word = self.rng.choice(ORDINARY_WORDS[self.language])
            return self._asked("other", [(self.words.answers["other"], ())], "", "other word", word=word)
        return self._asked("other", [(self.words.answers["other"], ())], "")

    def small_talk(self) -> Question:
        kind = self.rng.choice(("greeting", "thanks"))
        return self._asked("small talk", [(self.words.answers[kind], ())], "", kind)


_KINDS: dict[str, Callable[[Asker], Question | None]] = {
    "describe": Asker.describe,
    "shapes": Asker.shapes,
    "colours": Asker.colours,
    "colour of": Asker.colour_of,
    "shape of": Asker.shape_of,
    "count": Asker.count,
    "where": Asker.where,
    "relation": Asker.relation,
    "beside": Asker.beside,
    "ground": Asker.ground,
    "is there": Asker.is_there,
    "is it": Asker.is_it,
    "is ground": Asker.is_ground,
    "is beside": Asker.is_beside,
    "are so many": Asker.are_so_many,
    "other": Asker.other,
    "small talk": Asker.small_talk,
}

KINDS: dict[str, float] = {
    "describe": 4.5,
    "shapes": 1.8,
    "colours": 2,
    "colour of": 2,
    "shape of": 2,
    "count": 3,
    "where": 3,
    "relation": 2,
    "beside": 6,
    "ground": 0.8,
    "is there": 3,
    "is it": 1.5,
    "is ground": 0.7,
    "is beside": 4,
    "are so many": 1.8,
    "other": 0.8,
    "small talk": 0.6,
}
"""The kinds of questions, and how often each is asked in training."""


def ask(
    scene: Scene, language: LanguageName, rng: random.Random, kind: str, *, held_out: bool = False
) -> Question | None:
    """A question of a kind about a scene that is, or is not, held out; None if some tries find none."""
    asker = Asker(scene, language, rng)
    # What does not depend on the scene has no held-out combinations: the scene is what is new about it.
    for _ in range(12):
        question = asker.ask(kind)
        if question is not None and (question.held_out == held_out or not question.subject):
            return question
    return None
