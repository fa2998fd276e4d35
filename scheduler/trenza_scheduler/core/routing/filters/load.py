"""Making the replica load the model is worth it: requests for models that are loaded go first."""

from __future__ import annotations

from trenza_scheduler.core.domain import Priority
from trenza_scheduler.core.routing.candidate import Candidate, Need


def allows(need: Need, candidate: Candidate) -> bool:
    """Urgent requests, and those that have waited long enough, may force a load anywhere.

    The others only where the model is loaded nowhere else, the load can begin at once, and nobody of their class or a
    more urgent one waits for a model that is loaded there.
    """
    if not candidate.needs_load or need.priority is Priority.URGENT or not need.patient:
        return True
    return not need.loaded_elsewhere and candidate.can_load and candidate.rivals > need.priority
