"""The replica served the last request of the same conversation."""

from __future__ import annotations

from trenza_scheduler.core.routing.candidate import Candidate, Need


def score(need: Need, candidate: Candidate) -> float:
    """1 for that replica, in the same life of its process, else 0."""
    return 1.0 if need.session == (candidate.replica_id, candidate.generation) else 0.0
