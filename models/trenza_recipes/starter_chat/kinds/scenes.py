"""The words that the starter models share: coloured shapes to translate, or to hand on to starter-draw."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Exactly, Mentions, wording
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.world import (
    COLOURS,
    DAYS,
    DRAWN_COLOURS,
    NUMBER_WORDS,
    PAIRED_WORDS,
    PLACES,
    SHAPES,
    Colour,
    Drawing,
)

TRANSLATE = {
    "en": (
        "How do you say {0} in Spanish?",
        "What is {0} in Spanish?",
        "Translate {0} into Spanish.",
        'How do you say "{0}" in Spanish?',
        'What is the Spanish for "{0}"?',
        "Say {0} in Spanish.",
    ),
    "es": (
        "¿Cómo se dice {0} en inglés?",
        "¿Qué es {0} en inglés?",
        "Traduce {0} al inglés.",
        '¿Cómo se dice "{0}" en inglés?',
        '¿Cómo es "{0}" en inglés?',
        "Di {0} en inglés.",
    ),
}
DRAW = {
    "en": (
        "Draw {0}.",
        "Show me {0}.",
        "Show {0}.",
        "Draw me {0}.",
        "Make a picture of {0}.",
        "I want a picture of {0}.",
    ),
    "es": (
        "Dibuja {0}.",
        "Muestra {0}.",
        "Enséñame {0}.",
        "Dibújame {0}.",
        "Haz un dibujo de {0}.",
        "Quiero un dibujo de {0}.",
    ),
}
DRAW_ANSWER = {
    "en": "I only write, but starter-draw can draw {0}.",
    "es": "Yo solo escribo, pero starter-draw puede dibujar {0}.",
}
COMMANDS = {
    "en": (
        ("Open the door.", "open"),
        ("Close the window.", "close"),
        ("Start the music.", "start"),
        ("Stop the car.", "stop"),
        ("Open it.", "open"),
        ("Close it.", "close"),
        ("Start it.", "start"),
        ("Stop it.", "stop"),
        ("Start.", "start"),
        ("Stop.", "stop"),
        ("Open.", "open"),
        ("Close.", "close"),
    ),
    "es": (
        ("Abre la puerta.", "abrir"),
        ("Cierra la ventana.", "cerrar"),
        ("Empieza la música.", "empezar"),
        ("Para el coche.", "parar"),
        ("Ábrelo.", "abrir"),
        ("Ciérralo.", "cerrar"),
        ("Empieza.", "empezar"),
        ("Para.", "parar"),
        ("Abre.", "abrir"),
        ("Cierra.", "cerrar"),
    ),
}
COMMAND_ANSWER = {
    "en": "I can only talk, so I cannot {0} anything.",
    "es": "Solo puedo hablar, así que no puedo {0} nada.",
}


@dataclass(frozen=True)
class Shown:
    """Some shapes of one colour: "a red circle", "tres estrellas azules"."""

    amount: int
    colour: Colour
    shape: Drawing

    def described(self, language: str) -> str:
        plural = self.amount > 1
        if language == "en":
            amount = NUMBER_WORDS["en"][self.amount] if plural else "a"
            if not plural and self.colour.english == "orange":
                amount = "an"
            return f"{amount} {self.colour.english} {self.shape.english_plural if plural else self.shape.english}"
        one = "una" if self.shape.feminine else "un"
        amount = NUMBER_WORDS["es"][self.amount] if plural else one
        noun = self.shape.spanish_plural if plural else self.shape.spanish
        return f"{amount} {noun} {self.colour.spanish(self.shape.feminine, plural)}"

    @property
    def key(self) -> str:
        return f"{self.amount} {self.colour.english} {self.shape.english}"


def draw_shown(rng: Random, most: int = 9) -> Shown:
    """Some coloured shapes, most often one."""
    amount = 1 if rng.random() < 0.5 else rng.randint(2, most)
    return Shown(amount, COLOURS[rng.choice(DRAWN_COLOURS)], rng.choice(SHAPES))


def _single_pair(rng: Random) -> tuple[str, str]:
    days = tuple(zip(DAYS["en"], DAYS["es"], strict=True))
    numbers = tuple(zip(NUMBER_WORDS["en"], NUMBER_WORDS["es"], strict=True))
    colours = tuple((colour.english, colour.masculine) for colour in COLOURS.values())
    shapes = tuple((shape.english, shape.spanish) for shape in SHAPES)
    return rng.choice(rng.choice((days, numbers, colours, shapes, PAIRED_WORDS)))


def draw_translation(rng: Random, language: str) -> Episode:
    """A word or a coloured shape to say in the other language."""
    template = rng.choice(TRANSLATE[language])
    if rng.random() < 0.45:
        english, spanish = _single_pair(rng)
        key = f"translation:{wording(template)}:{english}"
    else:
        shown = draw_shown(rng)
        english, spanish = shown.described("en"), shown.described("es")
        key = f"translation:{shown.key}"
    asked, answer = (english, spanish) if language == "en" else (spanish, english)
    question, _ = ask(rng, template, language, asked)
    return (Exchange("translation", language, (key,), question, answer, Exactly(answer)),)


def draw_drawing(rng: Random, language: str) -> Episode:
    """Coloured shapes to draw, one group or two with a place, or another thing that only hands could do."""
    if rng.random() < 0.15:
        command, verb = rng.choice(COMMANDS[language])
        question, _ = ask(rng, command, language)
        key = f"drawing:{wording(question)}"
        return (
            Exchange("drawing", language, (key,), question, COMMAND_ANSWER[language].format(verb), Mentions((verb,))),
        )
    shown = draw_shown(rng)
    scene, key = shown.described(language), f"drawing:{shown.key}"
    if rng.random() < 0.4:
        place, beside = rng.randrange(len(PLACES[language])), draw_shown(rng, 3)
        scene = f"{scene} {PLACES[language][place]} {beside.described(language)}"
        key = f"drawing:{shown.key}:{place}:{beside.key}"
    question, _ = ask(rng, rng.choice(DRAW[language]), language, scene)
    answer = DRAW_ANSWER[language].format(scene)
    return (Exchange("drawing", language, (key,), question, answer, Mentions(("starter-draw", scene))),)
