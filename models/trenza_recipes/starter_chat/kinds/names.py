"""Remembering the user's name over the turns of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Mentions, wording
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.words import draw_name

TOLD = {
    "en": (
        "My name is {0}.",
        "I am {0}.",
        "I'm {0}.",
        "Call me {0}.",
        "You can call me {0}.",
        "Hello, my name is {0}.",
        "Hi, I am {0}.",
        "Hello, I'm {0}!",
        "People call me {0}.",
        "The name is {0}.",
        "Please remember that my name is {0}.",
        "Good morning, I am {0}.",
    ),
    "es": (
        "Me llamo {0}.",
        "Mi nombre es {0}.",
        "Soy {0}.",
        "Puedes llamarme {0}.",
        "Hola, me llamo {0}.",
        "Hola, soy {0}.",
        "Llámame {0}.",
        "¡Hola! Me llamo {0}.",
        "Me llaman {0}.",
        "Recuerda que me llamo {0}.",
        "Buenos días, soy {0}.",
    ),
}
ASKED = {
    "en": (
        "What is my name?",
        "What's my name?",
        "Do you remember my name?",
        "Who am I?",
        "What am I called?",
        "Do you know my name?",
        "Tell me my name.",
        "What did I say my name was?",
        "Can you say my name?",
    ),
    "es": (
        "¿Cómo me llamo?",
        "¿Cuál es mi nombre?",
        "¿Recuerdas mi nombre?",
        "¿Quién soy?",
        "¿Quién soy yo?",
        "¿Sabes cómo me llamo?",
        "Dime mi nombre.",
        "¿Te acuerdas de mi nombre?",
        "¿Sabes mi nombre?",
    ),
}
GREETED = {"en": "Nice to meet you, {0}.", "es": "Encantado de conocerte, {0}."}
RECALLED = {"en": "Your name is {0}.", "es": "Te llamas {0}."}
UNTOLD = {"en": "I do not know your name yet. What is your name?", "es": "Todavía no sé tu nombre. ¿Cómo te llamas?"}
UNTOLD_REQUIRED = {"en": ("do not know", "your name"), "es": ("no sé", "tu nombre")}

TOLD_KIND = "name-told"
UNTOLD_KIND = "name-untold"

DrawBetween = Callable[[Random], Episode]


def _tell(rng: Random, language: str, name: str) -> tuple[Exchange, str]:
    question, (written,) = ask(rng, rng.choice(TOLD[language]), language, name, fixed=True, filled=False)
    answer = GREETED[language].format(written)
    return Exchange(TOLD_KIND, language, (f"name:{wording(name)}",), question, answer, Mentions((written,))), written


def draw_name_told(rng: Random, language: str) -> Episode:
    """The user says their name and nothing else."""
    return (_tell(rng, language, draw_name(rng, language))[0],)


def draw_recall(rng: Random, language: str, draw_between: DrawBetween) -> Episode:
    """The user says their name, talks of up to three other things, and asks for it."""
    told, written = _tell(rng, language, draw_name(rng, language))
    between = [exchange for _ in range(rng.choice((0, 0, 1, 1, 2, 3))) for exchange in draw_between(rng)]
    asked_in = language if rng.random() < 0.9 else {"en": "es", "es": "en"}[language]
    template = rng.choice(ASKED[asked_in])
    question, _ = ask(rng, template, asked_in)
    recalled = RECALLED[asked_in].format(written)
    asked = Exchange("name", asked_in, told.keys, question, recalled, Mentions((written,)))
    return (told, *between, asked)


def draw_untold(rng: Random, language: str) -> Episode:
    """The user asks for a name they never said."""
    template = rng.choice(ASKED[language])
    question, _ = ask(rng, template, language)
    key = f"{UNTOLD_KIND}:{wording(question)}"
    judge = Mentions(UNTOLD_REQUIRED[language])
    return (Exchange(UNTOLD_KIND, language, (key,), question, UNTOLD[language], judge),)
