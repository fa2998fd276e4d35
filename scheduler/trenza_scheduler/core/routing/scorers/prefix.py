"""The part of the prompt whose computation the replica may still hold."""

from __future__ import annotations

from trenza_scheduler.core.routing.candidate import Candidate, Need


def score(need: Need, candidate: Candidate) -> float:
    """1 where it has seen the whole prompt, 0 where it has seen none of it."""
    return need.prefixes.get((candidate.replica_id, candidate.generation), 0.0)
