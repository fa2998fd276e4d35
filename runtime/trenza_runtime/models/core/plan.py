"""Which idle models make room for one that is to be loaded; one that serves or is pinned never does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Memory: TypeAlias = Mapping[str, int]
"""Bytes by device (`"cpu"`, `"cuda:0"` …)."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory. `idle_since_s` orders the idle ones; the figure means nothing while the model is in use."""

    name: str
    idle_since_s: float
    in_use: bool
    pinned: bool
    memory_bytes: Memory

    @property
    def evictable(self) -> bool:
        """Whether it may be removed now."""
        return not self.in_use and not self.pinned


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes: measured bytes by device, or, where it was never loaded, an estimate that may lie anywhere."""

    memory_bytes: Memory = field(default_factory=dict)
    estimated_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Load it, after removing these models, the longest idle one first."""

    evict: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """There will be room when these models, which serve now, are idle."""

    busy: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    """There is no room even with every model removed that is not pinned; the message says what is missing."""

    message: str


Plan: TypeAlias = Load | Wait | DoesNotFit


def plan_load(need: Need, residents: Sequence[Resident], free_bytes: Memory, count_limit: int) -> Plan:
    """How to make room. `count_limit` is how many models may be in memory together, the new one included."""
    idle = sorted((model for model in residents if model.evictable), key=lambda model: model.idle_since_s)
    victims = _fewest(need, residents, idle, free_bytes, count_limit)
    if victims is not None:
        return Load(tuple(model.name for model in victims))
    busy = [model for model in residents if model.in_use and not model.pinned]
    shortage = _shortage(need, [*idle, *busy], len(residents), free_bytes, count_limit)
    return Wait(tuple(model.name for model in busy)) if shortage is None else DoesNotFit(shortage)


def _fewest(
    need: Need, residents: Sequence[Resident], idle: Sequence[Resident], free_bytes: Memory, count_limit: int
) -> list[Resident] | None:
    """The longest idle models that make enough room, without those whose removal would not have been needed."""
    for count in range(len(idle) + 1):
        if _shortage(need, idle[:count], len(residents), free_bytes, count_limit) is None:
            break
    else:
        return None
    chosen = list(idle[:count])
    for model in reversed(idle[:count]):
        others = [other for other in chosen if other is not model]
        if _shortage(need, others, len(residents), free_bytes, count_limit) is None:
            chosen = others
    return chosen


def _shortage(
    need: Need, removed: Sequence[Resident], resident_count: int, free_bytes: Memory, count_limit: int
) -> str | None:
    """What is missing once these models are removed; None when the new one fits."""
    if resident_count - len(removed) + 1 > count_limit:
        return f"at most {count_limit} models may be in memory, and {resident_count - len(removed)} of them are pinned"
    free = {
        device: free_bytes.get(device, 0) + sum(model.memory_bytes.get(device, 0) for model in removed)
        for device in {*free_bytes, *need.memory_bytes}
    }
    for device, wanted_bytes in sorted(need.memory_bytes.items()):
        if wanted_bytes > free[device]:
            return f"it needs {_gib(wanted_bytes)} on {device}, where {_gib(free[device])} can be had"
    if not need.memory_bytes and need.estimated_bytes > sum(free.values()):
        return f"it needs about {_gib(need.estimated_bytes)}, and {_gib(sum(free.values()))} can be had"
    return None


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
