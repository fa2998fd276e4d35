"""Conversations for training: episodes in a row, some behind a system message, some long, some all in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from trenza_recipes.starter_chat.exchange import LANGUAGES, Exchange
from trenza_recipes.starter_chat.kinds.json_answers import draw_plain_question, to_json
from trenza_recipes.starter_chat.kinds.registry import KINDS, draw_for_training, is_trained
from trenza_recipes.starter_chat.system_messages import JSON_WISHES, draw_system_message

LAST_STAGE = 3
FIRST_STAGE_WITH_STEPS = 2
SHOUTED_SHARE = 0.1
CASE_MATTERS = ("repeat", "spell", "name", "name-told", "json")
SYSTEM_SHARE = 0.18
JSON_SYSTEM_SHARE = 0.02
LONG_SHARE = 0.02
LONG_EXCHANGES = (8, 24)
EPISODE_COUNTS = (1, 1, 1, 1, 1, 1, 1, 2, 2, 3)


@dataclass(frozen=True)
class Conversation:
    """A system message, or none, and exchanges in order."""

    system: str | None
    exchanges: tuple[Exchange, ...]

    def messages(self) -> list[dict[str, str]]:
        """The conversation as chat messages, every answer included."""
        listed = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self.exchanges:
            listed.append({"role": "user", "content": exchange.question})
            listed.append({"role": "assistant", "content": exchange.answer})
        return listed


def _draw_json_conversation(rng: Random, by_heart: bool) -> Conversation:
    language = rng.choice(LANGUAGES)
    exchanges: list[Exchange] = []
    while len(exchanges) < rng.choice((1, 1, 2, 3)):
        inner = draw_plain_question(rng, language, by_heart)
        if is_trained((inner,)):
            exchanges.append(to_json(inner, inner.question, inner.keys))
    return Conversation(rng.choice(JSON_WISHES), tuple(exchanges))


def draw_conversation(rng: Random, stage: int = 0) -> Conversation:
    """A conversation of a stage of training (0 to 3) in which nothing is held out."""
    if rng.random() < JSON_SYSTEM_SHARE:
        return _draw_json_conversation(rng, by_heart=stage < FIRST_STAGE_WITH_STEPS)
    kinds, shares = list(KINDS), [stages[stage] for _, stages in KINDS.values()]
    is_long = rng.random() < LONG_SHARE
    wanted = rng.randint(*LONG_EXCHANGES) if is_long else rng.choice(EPISODE_COUNTS)
    language = rng.choice(LANGUAGES)
    exchanges: list[Exchange] = []
    name_told = False
    for _ in range(wanted):
        kind = rng.choices(kinds, shares)[0]
        if kind == "name-untold" and name_told:
            kind = "name" if stage >= FIRST_STAGE_WITH_STEPS else "name-by-heart"
        name_told = name_told or (kind.startswith("name") and kind != "name-untold")
        exchanges.extend(draw_for_training(rng, kind, language if rng.random() < 0.8 else rng.choice(LANGUAGES)))
    if stage == LAST_STAGE and rng.random() < SHOUTED_SHARE:
        exchanges = [_shouted(exchange) for exchange in exchanges]
    system = draw_system_message(rng) if rng.random() < SYSTEM_SHARE else None
    return Conversation(system, tuple(exchanges))


def _shouted(exchange: Exchange) -> Exchange:
    """The exchange with its question in capitals, where the answer does not depend on them."""
    if exchange.kind in CASE_MATTERS:
        return exchange
    return replace(exchange, question=exchange.question.upper())


def training_stream(seed: int, stage: int = 0) -> Iterator[Conversation]:
    """Conversations of a stage without end, the same for the same seed."""
    rng = Random(seed)
    while True:
        yield draw_conversation(rng, stage)
