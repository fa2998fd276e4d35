"""Values replicas between 0 and 1, each scorer for one reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trenza_scheduler.core.domain import Load, Ticket
from trenza_scheduler.core.routing.views import ReplicaView


@dataclass(frozen=True, slots=True)
class Scorer:
    """A value between 0 and 1, and how much it counts."""

    weight: float
    value: Callable[[Ticket, ReplicaView], float]


def loaded(_: Ticket, replica: ReplicaView) -> float:
    """The model is in memory, or at least on its way there."""
    return {Load.LOADED: 1.0, Load.LOADING: 0.6, Load.LOADABLE: 0.3}.get(replica.load or Load.FAILED, 0.0)


def free_slots(_: Ticket, replica: ReplicaView) -> float:
    """The part of the model's slots that is free."""
    return min(1.0, max(0.0, replica.free_slots / replica.slots)) if replica.slots else 0.0


def session(_: Ticket, replica: ReplicaView) -> float:
    """It served the last request of the same conversation."""
    return float(replica.has_session)


def prefix(_: Ticket, replica: ReplicaView) -> float:
    """The part of the prompt whose computation it may still hold."""
    return replica.prefix_share


# A loaded model outweighs everything; a warm cache outweighs a free slot or two but not a nearly full replica.
SCORERS: Mapping[str, Scorer] = {
    "loaded": Scorer(4.0, loaded),
    "free_slots": Scorer(1.0, free_slots),
    "session": Scorer(0.5, session),
    "prefix": Scorer(0.5, prefix),
}
"""By the names under which decisions are explained."""
