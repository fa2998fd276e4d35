"""Answers in JSON: the object {"answer": …} with a number, a word, or null for what the model does not know.

A sum has its working before the answer: {"steps": "7 + 5 = 8 + 4 = … = 12", "answer": 12}.
"""

from __future__ import annotations

import json
from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Answers
from trenza_recipes.starter_chat.kinds.arithmetic import (
    draw_addition,
    draw_addition_by_heart,
    draw_subtraction,
    draw_subtraction_by_heart,
)
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
_SUMS = (draw_addition, draw_subtraction, draw_addition, draw_subtraction)
_SUMS_BY_HEART = (
    draw_addition_by_heart,
    draw_subtraction_by_heart,
    draw_addition_by_heart,
    draw_subtraction_by_heart,
)
_OTHERS = (
    draw_colour,
    draw_capital,
    draw_day,
    draw_shape,
    draw_unknown,
)


def as_json(value: int | str | None, steps: str = "") -> str:
    """The answer object for `value`."""
    return json.dumps({"steps": steps, "answer": value} if steps else {"answer": value}, ensure_ascii=False)


def draw_plain_question(rng: Random, language: str, by_heart: bool = False) -> Exchange:
    """A question with a bare value, not yet asked for in JSON; sums are worked out or known `by_heart`."""
    sums = _SUMS_BY_HEART if by_heart else _SUMS
    return rng.choice((*sums, *_OTHERS))(rng, language)[0]


def to_json(inner: Exchange, question: str, keys: tuple[str, ...]) -> Exchange:
    """`inner` asked as `question` and answered in JSON."""
    answer = as_json(inner.value, inner.steps)
    return Exchange("json", inner.language, keys, question, answer, Answers(inner.value))


def draw_json_by_heart(rng: Random, language: str) -> Episode:
    """A question with the wish for a JSON answer; sums are answered at once."""
    return draw_json(rng, language, by_heart=True)


def draw_json(rng: Random, language: str, by_heart: bool = False) -> Episode:
    """A question with the wish for a JSON answer before or after it."""
    inner = draw_plain_question(rng, language, by_heart)
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
