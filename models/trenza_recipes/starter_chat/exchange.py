"""One question with its answer, the unit that every kind of conversation is made of."""

from __future__ import annotations

from dataclasses import dataclass

from trenza_recipes.starter_chat.judging import Judge

LANGUAGES = ("en", "es")


@dataclass(frozen=True)
class Exchange:
    """What the user says and what the model should answer.

    `keys` name the combinations it shows (see `held_out`); `value` is the bare answer for JSON, where the kind has one,
    and `steps` how it was reached, where the answer shows that.
    """

    kind: str
    language: str
    keys: tuple[str, ...]
    question: str
    answer: str
    judge: Judge
    value: int | str | None = None
    steps: str = ""


Episode = tuple[Exchange, ...]
"""Exchanges that belong together; the last one is what the episode is about."""
