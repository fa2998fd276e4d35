"""Words and names to copy: ordinary ones, those of the small world, and made-up ones without end."""

from __future__ import annotations

from importlib.resources import files
from random import Random

from trenza_recipes.starter_chat.world import COLOURS, DAYS, NUMBER_WORDS, PAIRED_WORDS, SHAPES


def _listed(name: str) -> tuple[str, ...]:
    """The words of a list in the folder `data`, in the order in which they stand there."""
    return tuple(files("trenza_recipes.starter_chat").joinpath("data", name).read_text(encoding="utf-8").split())


ORDINARY_WORDS: dict[str, tuple[str, ...]] = {
    "en": _listed("ordinary_words.en.txt"),
    "es": _listed("ordinary_words.es.txt"),
}
NAMES = _listed("names.txt")


def _world_words(language: str) -> tuple[str, ...]:
    english = language == "en"
    pairs = tuple(pair[0 if english else 1] for pair in PAIRED_WORDS)
    shapes = tuple(
        name
        for shape in SHAPES
        for name in ((shape.english, shape.english_plural) if english else (shape.spanish, shape.spanish_plural))
    )
    colours = tuple(colour.name(language) for colour in COLOURS.values())
    commands = (
        ("draw", "show", "open", "close", "start", "stop")
        if english
        else ("dibuja", "muestra", "abre", "cierra", "empieza", "para")
    )
    single = tuple(word for word in pairs if " " not in word)
    return tuple(dict.fromkeys((*NUMBER_WORDS[language], *colours, *shapes, *DAYS[language], *single, *commands)))


WORLD_WORDS: dict[str, tuple[str, ...]] = {language: _world_words(language) for language in ("en", "es")}


def _parts(text: str, empty: int = 0) -> list[str]:
    return text.split() + [""] * empty


_STARTS = {
    "en": _parts(
        "b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr pl pr sh sl sm sn sp st sw th tr qu x"
    ),
    "es": _parts("b c d f g h j l m n p r s t v z bl br ch cl cr dr fl fr gl gr ll pl pr tr qu ñ y k x w"),
}
_MIDDLES = {"en": _parts("a e i o u ai ea ee oo ou y"), "es": _parts("a e i o u á é í ó ú ia ie ue")}
_ENDS = {
    "en": _parts("b d f g k l m n p r s t x ck ld ll mp nd ng nk nt rd rk sh ss st th", empty=14),
    "es": _parts("l n r s d z", empty=12),
}


def _syllable(rng: Random, language: str) -> str:
    start = rng.choice(_STARTS[language]) if rng.random() < 0.85 else ""
    return start + rng.choice(_MIDDLES[language]) + rng.choice(_ENDS[language])


def draw_unseen_word(rng: Random, language: str) -> str:
    """A made-up word of two to eleven letters; one in five is a plain run of random letters."""
    if rng.random() < 0.2:
        letters = "abcdefghijklmnopqrstuvwxyz" + ("ñáéíóúü" if language == "es" else "")
        return "".join(rng.choice(letters) for _ in range(rng.randint(2, 10)))
    word = "".join(_syllable(rng, language) for _ in range(rng.randint(1, 4)))[:11]
    return word if len(word) > 1 else word + rng.choice("aeiou")


def draw_name(rng: Random, language: str) -> str:
    """A name, half of them made up, one in ten with a second name."""
    first = rng.choice(NAMES) if rng.random() < 0.5 else draw_unseen_word(rng, language)[:9].capitalize()
    return first if rng.random() < 0.9 else f"{first} {draw_unseen_word(rng, language)[:8].capitalize()}"


_FRAMES: dict[str, tuple[str, ...]] = {
    "en": (
        "the {o} is {c}",
        "I like the {o}",
        "{w} {w}",
        "{w} {w} {w}",
        "the {o} and the {o}",
        "my {o} is in the {o}",
        "{o} {o}",
        "there is a {o} on the {o}",
        "the {c} {o}",
        "{n} {s}",
        "hello {o}",
        "today is {d}",
        "the {o} runs to the {o}",
        "a {c} {h}",
        "we have {n} {s}",
        "{x} {x}",
        "the {x} has a {o}",
        "{o} {x} {w}",
        "good morning {o}",
        "{n} plus {n}",
    ),
    "es": (
        "{o} {o}",
        "me gusta {o}",
        "{w} {w}",
        "{w} {w} {w}",
        "{o} y {o}",
        "hay {n} {s}",
        "mi {o} es {c}",
        "hoy es {d}",
        "{x} {x}",
        "hola {o}",
        "tengo {n} {s}",
        "{h} {c}",
        "{o} {x} {w}",
        "quiero ver {o}",
        "buenos días {o}",
        "{n} más {n}",
        "el {x} tiene {o}",
        "vamos a {o} con {o}",
        "mi {o} y mi {o}",
    ),
}


def draw_sentence(rng: Random, language: str) -> str:
    """A short sentence, or a row of words, to repeat; one in seven goes on with a second."""
    text = _draw_clause(rng, language)
    if rng.random() < 0.15:
        text += (" and " if language == "en" else " y ") + _draw_clause(rng, language)
    return text[:1].upper() + text[1:] if rng.random() < 0.25 else text


def _draw_clause(rng: Random, language: str) -> str:
    shape = rng.choice(SHAPES)
    english = language == "en"
    text = rng.choice(_FRAMES[language])
    while "{" in text:
        place = text[text.index("{") : text.index("}") + 1]
        choice = {
            "{o}": lambda: rng.choice(ORDINARY_WORDS[language]),
            "{w}": lambda: rng.choice(WORLD_WORDS[language]),
            "{x}": lambda: draw_unseen_word(rng, language),
            "{c}": lambda: rng.choice(tuple(COLOURS.values())).name(language),
            "{d}": lambda: rng.choice(DAYS[language]),
            "{n}": lambda: rng.choice(NUMBER_WORDS[language]),
            "{s}": lambda: shape.english_plural if english else shape.spanish_plural,
            "{h}": lambda: shape.english if english else shape.spanish,
        }[place]()
        text = text.replace(place, choice, 1)
    return text
