"""Answers in JSON: the object {"answer": …} with a number, a word, or null for what the model does not know."""

from __future__ import annotations

import json
from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Answers
from trenza_recipes.starter_chat.kinds.arithmetic import draw_addition, draw_subtraction
from trenza_recipes.starter_chat.kinds.days import draw_day
from trenza_recipes.starter_chat.kinds.facts import draw_capital, draw_colour, draw_shape
from trenza_recipes.starter_chat.kinds.unknown import draw_unknown

WRAPPERS = {
    "en": (
        "Answer in JSON: {}",
        "Answer in JSON. {}",
        "{} Answer in JSON.",
        "{} Reply in JSON.",
        "Reply in JSON: {}",
        "In JSON: {}",
        "{} Give the answer as JSON.",
        "Answer as JSON: {}",
        "{} Use JSON.",
        "JSON please: {}",
        "Reply with a JSON object: {}",
    ),
    "es": (
        "Responde en JSON: {}",
        "Responde en JSON. {}",
        "{} Responde en JSON.",
        "Contesta en JSON: {}",
        "{} Contesta en JSON.",
        "En JSON: {}",
        "{} Da la respuesta en JSON.",
        "{} Usa JSON.",
        "JSON, por favor: {}",
        "Responde con un objeto JSON: {}",
    ),
}
_INNER = (
    draw_addition,
    draw_subtraction,
    draw_addition,
    draw_subtraction,
    draw_colour,
    draw_capital,
    draw_day,
    draw_shape,
    draw_unknown,
)


def as_json(value: int | str | None) -> str:
    """The answer object for `value`."""
    return json.dumps({"answer": value}, ensure_ascii=False)


def draw_plain_question(rng: Random, language: str) -> Exchange:
    """A question with a bare value, not yet asked for in JSON."""
    return rng.choice(_INNER)(rng, language)[0]


def to_json(inner: Exchange, question: str, keys: tuple[str, ...]) -> Exchange:
    """`inner` asked as `question` and answered in JSON."""
    return Exchange("json", inner.language, keys, question, as_json(inner.value), Answers(inner.value))


def draw_json(rng: Random, language: str) -> Episode:
    """A question with the wish for a JSON answer before or after it."""
    inner = draw_plain_question(rng, language)
    wrapper = rng.choice(WRAPPERS[language])
    asked = inner.question
    if not wrapper.startswith("{}") and rng.random() < 0.5:
        asked = asked[:2].lower() + asked[2:] if asked.startswith("¿") else asked[:1].lower() + asked[1:]
    if wrapper.startswith("{}") and asked[-1] not in "?.!":
        asked += "?" if rng.random() < 0.5 else "."
    marked = wrapper.replace("{}", asked)
    if rng.random() < 0.15:
        marked = marked.replace("JSON", "json")
    return (to_json(inner, marked, inner.keys),)
