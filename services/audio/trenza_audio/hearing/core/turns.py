"""Decides whose windows the next step hears: one of everybody before a second of anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEP_S = 20.0
"""The longest that a step is meant to take: nobody can be served or cancelled meanwhile, and the process seems to hang."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A request with windows that are ready. `served_at` is the number of the step that heard it last, -1 for none yet."""

    name: str
    ready: int
    served_at: int


def choose(standings: Sequence[Standing], room: int) -> dict[str, int]:
    """How many windows of each request the next step hears, `room` in all at most.

    Requests take turns, those first that have waited longest (in the order given where they have waited alike), so that
    a short one is heard in the next step or the one after however long the others are.
    """
    order = sorted((standing for standing in standings if standing.ready), key=lambda standing: standing.served_at)
    chosen: dict[str, int] = {}
    while room > 0 and order:
        for standing in order[:room]:
            chosen[standing.name] = chosen.get(standing.name, 0) + 1
        room -= len(order[:room])
        order = [standing for standing in order if chosen.get(standing.name, 0) < standing.ready]
    return chosen


def fitting_batch(limit: int, windows: int, seconds: float) -> int:
    """How many windows the next step takes, at most `limit`, when the last one took `seconds` for so many."""
    return max(1, min(limit, int(STEP_S * windows / max(seconds, 1e-6))))
