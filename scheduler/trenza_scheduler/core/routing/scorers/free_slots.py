"""The part of the model's slots that is free."""

from __future__ import annotations

from trenza_scheduler.core.routing.candidate import Candidate, Need


def score(_: Need, candidate: Candidate) -> float:
    """1 where nothing runs, 0 where all slots are taken."""
    return min(1.0, max(0.0, candidate.free_slots / candidate.slots)) if candidate.slots > 0 else 0.0
