"""The model is in memory, or at least on its way there."""

from __future__ import annotations

from trenza_scheduler.core.domain import Load
from trenza_scheduler.core.routing.candidate import Candidate, Need

_SCORES = {Load.LOADED: 1.0, Load.LOADING: 0.5}


def score(_: Need, candidate: Candidate) -> float:
    """1 in memory, one half while it is being loaded, else 0."""
    return _SCORES.get(candidate.load, 0.0)
