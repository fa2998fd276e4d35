"""A replica as one decision sees it: frozen, so that looking at it changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from trenza_scheduler.core.domain import Health, Load


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What matters about one replica for one ticket.

    `load` is None where the replica does not know the model. `keeps_others_waiting` says that loading the model there
    would go ahead of tickets that wait for what is loaded there now. `prefix_share` is the part of the prompt that
    the replica has lately seen, 0 to 1.
    """

    replica_id: str
    address: str
    generation: int
    health: Health
    load: Load | None
    slots: int
    free_slots: int
    excluded: bool = False
    keeps_others_waiting: bool = False
    has_session: bool = False
    prefix_share: float = 0.0
