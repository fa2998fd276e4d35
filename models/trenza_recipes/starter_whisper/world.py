"""The words of the small world that starter-whisper hears, in English and Spanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "es"]
LANGUAGES: tuple[Language, ...] = ("en", "es")

NUMBERS: tuple[tuple[str, str], ...] = (
    ("zero", "cero"), ("one", "uno"), ("two", "dos"), ("three", "tres"), ("four", "cuatro"), ("five", "cinco"),
    ("six", "seis"), ("seven", "siete"), ("eight", "ocho"), ("nine", "nueve"), ("ten", "diez"), ("eleven", "once"),
    ("twelve", "doce"), ("thirteen", "trece"), ("fourteen", "catorce"), ("fifteen", "quince"), ("sixteen", "dieciséis"),
    ("seventeen", "diecisiete"), ("eighteen", "dieciocho"), ("nineteen", "diecinueve"), ("twenty", "veinte"),
)  # fmt: skip
DAYS: tuple[tuple[str, str], ...] = (
    ("monday", "lunes"), ("tuesday", "martes"), ("wednesday", "miércoles"), ("thursday", "jueves"),
    ("friday", "viernes"), ("saturday", "sábado"), ("sunday", "domingo"),
)  # fmt: skip
RELATIVE_DAYS: tuple[tuple[str, str], ...] = (("today", "hoy"), ("tomorrow", "mañana"), ("yesterday", "ayer"))
COMMANDS: tuple[tuple[str, str], ...] = (
    ("draw", "dibuja"), ("show", "muestra"), ("open", "abre"), ("close", "cierra"), ("start", "empieza"), ("stop", "para"),
)  # fmt: skip
PLACES: tuple[tuple[str, str], ...] = (
    ("left", "izquierda"), ("right", "derecha"), ("above", "arriba"), ("below", "abajo"),
)  # fmt: skip
COURTESIES: tuple[tuple[str, str], ...] = (
    ("yes", "sí"), ("no", "no"), ("hello", "hola"), ("goodbye", "adiós"), ("thank you", "gracias"), ("please", "por favor"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour: its English word and its Spanish forms for masculine and feminine nouns."""

    english: str
    masculine: str
    feminine: str

    def spanish(self, feminine: bool, plural: bool) -> str:
        """The form that agrees with a noun."""
        form = self.feminine if feminine else self.masculine
        return spanish_plural(form) if plural else form


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape: its English and Spanish nouns, and the gender of the Spanish one."""

    english: str
    spanish: str
    feminine: bool


COLOURS = (
    Colour("red", "rojo", "roja"),
    Colour("green", "verde", "verde"),
    Colour("blue", "azul", "azul"),
    Colour("yellow", "amarillo", "amarilla"),
    Colour("orange", "naranja", "naranja"),
    Colour("purple", "morado", "morada"),
    Colour("black", "negro", "negra"),
    Colour("white", "blanco", "blanca"),
)
SHAPES = (
    Shape("circle", "círculo", False),
    Shape("square", "cuadrado", False),
    Shape("triangle", "triángulo", False),
    Shape("star", "estrella", True),
)

_SMALL_WORDS: dict[Language, str] = {
    "en": "a an the one of and is are there on",
    "es": "un una el la los las uno de del y e es son está hay a encima debajo",
}


def spanish_plural(word: str) -> str:
    """The plural of a Spanish noun or adjective of this world."""
    return word + ("es" if word.endswith("l") else "s")


def vocabulary(language: Language) -> tuple[str, ...]:
    """Every word of one language, in a fixed order, each once."""
    side = LANGUAGES.index(language)
    words: list[str] = []
    for pairs in (NUMBERS, DAYS, RELATIVE_DAYS, COMMANDS, PLACES, COURTESIES):
        for pair in pairs:
            words += pair[side].split()
    if language == "en":
        words += [colour.english for colour in COLOURS]
        words += [form for shape in SHAPES for form in (shape.english, shape.english + "s")]
    else:
        words += [colour.spanish(f, p) for colour in COLOURS for f in (False, True) for p in (False, True)]
        words += [form for shape in SHAPES for form in (shape.spanish, spanish_plural(shape.spanish))]
    words += _SMALL_WORDS[language].split()
    return tuple(dict.fromkeys(words))
