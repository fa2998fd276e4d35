"""Chooses the slot for a new prompt so that as little as possible of it has to be computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotContent:
    """What a slot's memory holds: the tokens of its last request, and when that was (larger is later)."""

    index: int
    tokens: Sequence[int]
    last_used: int


@dataclass(frozen=True, slots=True)
class SlotChoice:
    """The slot to use and how many of the prompt's leading tokens its memory already holds."""

    index: int
    shared: int


def shared_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading tokens the two have in common; slices are compared, so long prompts cost microseconds."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


def choose_slot(prompt: Sequence[int], free: Sequence[SlotContent]) -> SlotChoice:
    """Picks one of the free slots; both sequences must be of the same type (lists).

    The longest shared beginning wins, provided that taking the slot saves more tokens than it throws away: a short
    system prompt in common is no reason to overwrite a long conversation. Otherwise, and among equals, the slot unused
    for longest. Raises ValueError when no slot is free.
    """
    if not free:
        raise ValueError("no slot is free")
    shared = {slot.index: shared_length(prompt, slot.tokens) for slot in free}

    def rank(slot: SlotContent) -> tuple[int, int, int]:
        saved = shared[slot.index]
        worth = saved if saved > len(slot.tokens) - saved else 0
        return (-worth, slot.last_used, slot.index)

    best = min(free, key=rank)
    return SlotChoice(best.index, shared[best.index])
