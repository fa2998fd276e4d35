"""The replica has as many slots left as the request takes."""

from __future__ import annotations

from trenza_scheduler.core.routing.candidate import Candidate, Need


def allows(need: Need, candidate: Candidate) -> bool:
    """More slots than a replica has count as all of them."""
    return candidate.free_slots >= min(need.slots, candidate.slots)
