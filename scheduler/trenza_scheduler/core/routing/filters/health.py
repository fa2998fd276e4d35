"""The replica is heard of, and is not leaving."""

from __future__ import annotations

from trenza_scheduler.core.domain import Health
from trenza_scheduler.core.routing.candidate import Candidate, Need


def allows(_: Need, candidate: Candidate) -> bool:
    """Suspect and draining replicas get nothing new."""
    return candidate.health is Health.LIVE
