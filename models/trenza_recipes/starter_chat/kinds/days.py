"""Days of the week: which one comes after, which one before."""

from __future__ import annotations

from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Concludes, Exactly, wording
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.world import DAYS

RELATIONS = ("tomorrow", "yesterday", "after", "before")
STEPS = {"tomorrow": 1, "yesterday": -1, "after": 1, "before": -1}

ASKED: dict[tuple[str, str], tuple[str, ...]] = {
    ("tomorrow", "en"): (
        "Today is {0}. What day is tomorrow?",
        "If today is {0}, what day is tomorrow?",
        "Today is {0}. What is tomorrow?",
        "It is {0} today. Which day is tomorrow?",
        "What day is tomorrow if today is {0}?",
        "Today is {0}, what will tomorrow be?",
    ),
    ("yesterday", "en"): (
        "Today is {0}. What day was yesterday?",
        "If today is {0}, what day was yesterday?",
        "Today is {0}. What was yesterday?",
        "It is {0} today. Which day was yesterday?",
        "What day was yesterday if today is {0}?",
    ),
    ("after", "en"): (
        "What day comes after {0}?",
        "Which day is after {0}?",
        "What is the day after {0}?",
        "Which day follows {0}?",
        "Tell me the day after {0}.",
    ),
    ("before", "en"): (
        "What day comes before {0}?",
        "Which day is before {0}?",
        "What is the day before {0}?",
        "Tell me the day before {0}.",
    ),
    ("tomorrow", "es"): (
        "Hoy es {0}. ¿Qué día es mañana?",
        "Si hoy es {0}, ¿qué día es mañana?",
        "Hoy es {0}. ¿Qué día será mañana?",
        "¿Qué día es mañana si hoy es {0}?",
        "Si hoy es {0}, ¿mañana qué día es?",
        "Hoy es {0}, ¿qué será mañana?",
    ),
    ("yesterday", "es"): (
        "Hoy es {0}. ¿Qué día fue ayer?",
        "Si hoy es {0}, ¿qué día fue ayer?",
        "Hoy es {0}. ¿Qué día era ayer?",
        "¿Qué día fue ayer si hoy es {0}?",
        "Si hoy es {0}, ¿ayer qué día fue?",
    ),
    ("after", "es"): (
        "¿Qué día viene después del {0}?",
        "¿Qué día va después del {0}?",
        "¿Cuál es el día después del {0}?",
        "¿Qué día sigue al {0}?",
        "Dime el día después del {0}.",
    ),
    ("before", "es"): (
        "¿Qué día viene antes del {0}?",
        "¿Qué día va antes del {0}?",
        "¿Cuál es el día antes del {0}?",
        "Dime el día antes del {0}.",
    ),
}
ANSWERS = {
    ("tomorrow", "en"): "Tomorrow is {1}.",
    ("yesterday", "en"): "Yesterday was {1}.",
    ("after", "en"): "The day after {0} is {1}.",
    ("before", "en"): "The day before {0} is {1}.",
    ("tomorrow", "es"): "Mañana es {1}.",
    ("yesterday", "es"): "Ayer fue {1}.",
    ("after", "es"): "El día después del {0} es el {1}.",
    ("before", "es"): "El día antes del {0} es el {1}.",
}


ASKED_WEEK = {
    "en": (
        "Say the days of the week.",
        "What are the days of the week?",
        "Name the days of the week.",
        "Tell me the days of the week.",
        "Which days are there in a week?",
    ),
    "es": (
        "Di los días de la semana.",
        "¿Cuáles son los días de la semana?",
        "Dime los días de la semana.",
        "¿Qué días tiene la semana?",
        "Nombra los días de la semana.",
    ),
}
WEEK_SHARE = 0.06


def _draw_week(rng: Random, language: str) -> Episode:
    question, _ = ask(rng, rng.choice(ASKED_WEEK[language]), language)
    answer = ", ".join(DAYS[language]) + "."
    key = f"day:week:{wording(question)}"
    return (Exchange("day", language, (key,), question, answer[0].upper() + answer[1:], Exactly(answer), answer[:-1]),)


def draw_day(rng: Random, language: str) -> Episode:
    """A neighbour of a day, or now and then the whole week."""
    if rng.random() < WEEK_SHARE:
        return _draw_week(rng, language)
    relation, index = rng.choice(RELATIONS), rng.randrange(7)
    template = rng.choice(ASKED[relation, language])
    day, result = DAYS[language][index], DAYS[language][(index + STEPS[relation]) % 7]
    question, _ = ask(rng, template, language, day)
    answer = ANSWERS[relation, language].format(day, result)
    key = f"day:{template}:{index}"
    judge = Concludes.of((result,), DAYS[language])
    return (Exchange("day", language, (key,), question, answer, judge, result),)
