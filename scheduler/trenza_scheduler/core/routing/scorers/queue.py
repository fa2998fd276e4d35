"""How little waits in the replica's own queue, which fills when requests reach it past the scheduler."""

from __future__ import annotations

from trenza_scheduler.core.routing.candidate import Candidate, Need


def score(_: Need, candidate: Candidate) -> float:
    """1 where the queue is empty, 0 where it is full."""
    return min(1.0, max(0.0, 1.0 - candidate.queue_share))
