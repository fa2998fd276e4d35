"""Rules replicas out: each filter is a question whose answer must be yes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trenza_scheduler.core.domain import Health, Load, Priority, Ticket
from trenza_scheduler.core.routing.views import ReplicaView

Filter = Callable[[Ticket, ReplicaView], bool]


def serves_model(_: Ticket, replica: ReplicaView) -> bool:
    """It knows the model, and is not just removing it from memory."""
    return replica.load is not None and replica.load is not Load.UNLOADING


def is_live(_: Ticket, replica: ReplicaView) -> bool:
    """It is heard of, and is not leaving."""
    return replica.health is Health.LIVE


def is_not_excluded(_: Ticket, replica: ReplicaView) -> bool:
    """It has not just failed this very request."""
    return not replica.excluded


def has_room(ticket: Ticket, replica: ReplicaView) -> bool:
    """It has as many slots left as the request takes."""
    return replica.free_slots >= ticket.slots


def swaps_for_nobody_waiting(ticket: Ticket, replica: ReplicaView) -> bool:
    """Loading the model there does not go ahead of tickets for a model that is loaded; urgent requests need not care."""
    return ticket.priority is Priority.URGENT or not replica.keeps_others_waiting


FILTERS: Mapping[str, Filter] = {
    "model": serves_model,
    "health": is_live,
    "excluded": is_not_excluded,
    "room": has_room,
    "swap": swaps_for_nobody_waiting,
}
"""By the names under which decisions are explained."""
