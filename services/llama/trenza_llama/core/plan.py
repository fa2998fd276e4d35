"""Decides which sequences get which share of the next batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefill:
    """A slot whose prompt still has `remaining` tokens to compute; at most `most` of them in one batch if it is set."""

    slot: int
    remaining: int
    most: int | None = None

    @property
    def wanted(self) -> int:
        """How many tokens it can make use of in one batch."""
        return self.remaining if self.most is None else min(self.remaining, self.most)


@dataclass(frozen=True, slots=True)
class Share:
    """A slot's share of the batch, in tokens."""

    slot: int
    count: int


def plan_batch(
    decoding: Sequence[int], prefilling: Sequence[Prefill], batch_tokens: int, prefill_tokens: int
) -> tuple[Share, ...]:
    """Shares one batch of at most `batch_tokens` tokens.

    Every generating slot (`decoding`) gets its one token first. What is left goes to the prompts, in equal parts, where
    those that need less than their part leave the rest to the others: a long prompt cannot starve short ones, and where
    there is room for as many tokens as prompts, every one advances. While slots are generating, prompts get at most
    `prefill_tokens` together, so that a long prompt does not stall answers. Raises ValueError when the generating slots
    alone do not fit.
    """
    if len(decoding) > batch_tokens:
        raise ValueError(f"{len(decoding)} generating slots do not fit in a batch of {batch_tokens} tokens")
    room = batch_tokens - len(decoding)
    if decoding:
        room = min(room, prefill_tokens)
    shares = [Share(slot, 1) for slot in decoding]
    parts = _equal_parts([prefill.wanted for prefill in prefilling], room)
    shares += [Share(prefill.slot, part) for prefill, part in zip(prefilling, parts, strict=True) if part > 0]
    return tuple(shares)


def _equal_parts(wanted: Sequence[int], room: int) -> list[int]:
    """Splits `room` equally, nobody getting more than wanted; the smallest get what division leaves over."""
    parts = [0] * len(wanted)
    by_need = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    for served, index in enumerate(by_need):
        equal = math.ceil(room / (len(by_need) - served))
        parts[index] = min(wanted[index], equal)
        room -= parts[index]
    return parts
