"""Held-out questions of every kind, each with the judge of its answer; needs nothing but the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from trenza_recipes.starter_chat.exchange import LANGUAGES
from trenza_recipes.starter_chat.judging import Judge
from trenza_recipes.starter_chat.kinds.registry import FINAL_KINDS, draw_held_out
from trenza_recipes.starter_chat.system_messages import draw_system_message

__all__ = ["KIND_NAMES", "LANGUAGES", "Question", "held_out"]

KIND_NAMES = FINAL_KINDS
SYSTEM_SHARE = 0.25


@dataclass(frozen=True)
class Question:
    """Chat messages ending in a user's, and what to expect of the reply.

    `judge.accepts(answer)` says whether an answer is right; `example` is one that is.
    """

    messages: list[dict[str, str]]
    kind: str
    language: str
    judge: Judge
    example: str


def _question(rng: Random, kind: str, language: str) -> Question:
    *earlier, asked = draw_held_out(rng, kind, language)
    messages = []
    if rng.random() < SYSTEM_SHARE:
        messages.append({"role": "system", "content": draw_system_message(rng, held_out=True)})
    for exchange in earlier:
        messages.append({"role": "user", "content": exchange.question})
        messages.append({"role": "assistant", "content": exchange.answer})
    messages.append({"role": "user", "content": asked.question})
    return Question(messages, kind, asked.language, asked.judge, asked.answer)


def held_out(kind: str, language: str, count: int, seed: int) -> list[Question]:
    """`count` questions of `kind` in `language` ("en" or "es") that training never showed.

    The same arguments give the same questions. One in four has a system message, itself never seen in training.
    Raises KeyError for an unknown kind or language.
    """
    if kind not in KIND_NAMES or language not in LANGUAGES:
        raise KeyError(f"no kind {kind!r} in language {language!r}")
    rng = Random(f"{kind}/{language}/{seed}")
    return [_question(rng, kind, language) for _ in range(count)]
