"""Chooses the slot for a new prompt so that as little as possible of it has to be computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotContent:
    """What a slot's memory holds: the tokens of its request, and when it was last used (larger is later)."""

    index: int
    tokens: Sequence[int]
    last_used: int
    free: bool = True


@dataclass(frozen=True, slots=True)
class SlotChoice:
    """The slot to use, and how many of the prompt's leading tokens it can take from the memory of the slot `source`."""

    index: int
    shared: int
    source: int


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


def choose_slot(prompt: Sequence[int], slots: Sequence[SlotContent], worth_copying: int | None) -> SlotChoice:
    """Picks one of the free slots; all token sequences must be of the same type (lists).

    The longest shared beginning wins, provided that taking the slot saves more tokens than it throws away: a short
    system prompt in common is no reason to overwrite a long conversation. Otherwise, and among equals, an empty slot or
    the one unused for longest. Where another slot, free or not, shares at least `worth_copying` tokens more with the
    prompt than the chosen one, that is the source to copy from; None means that slots cannot be copied. Raises
    ValueError when no slot is free.
    """
    free = [slot for slot in slots if slot.free]
    if not free:
        raise ValueError("no slot is free")
    shared = {slot.index: shared_length(prompt, slot.tokens) for slot in slots}

    def rank(slot: SlotContent) -> tuple[int, int, int]:
        saved = shared[slot.index]
        worth = saved if saved > len(slot.tokens) - saved else 0
        return (-worth, slot.last_used if slot.tokens else -1, slot.index)

    best = min(free, key=rank).index
    source = max(slots, key=lambda slot: (shared[slot.index], -slot.index)).index
    if worth_copying is None or shared[source] - shared[best] < worth_copying:
        source = best
    return SlotChoice(best, shared[source], source)
