"""The replica can serve the model, as far as it says."""

from __future__ import annotations

from trenza_scheduler.core.domain import Load
from trenza_scheduler.core.routing.candidate import Candidate, Need


def allows(_: Need, candidate: Candidate) -> bool:
    """A state that is not known, or a loaded model that does not say what it takes, is not to be relied on."""
    return candidate.load is not Load.UNKNOWN and candidate.slots > 0
