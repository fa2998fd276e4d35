"""The replica has not just refused or failed a request for the model."""

from __future__ import annotations

from trenza_scheduler.core.routing.candidate import Candidate, Need


def allows(_: Need, candidate: Candidate) -> bool:
    """A pause is short and never final: requests wait for its end where there is no other replica."""
    return not candidate.paused
