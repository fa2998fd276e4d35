"""What one decision looks at: frozen, so that looking changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from trenza_scheduler.core.domain import Health, Load, Priority

NOBODY = 99
"""A class behind all classes: nobody waits."""


class Candidate(NamedTuple):
    """A replica that knows the ticket's model. The same for all tickets that wait for that model."""

    replica_id: str
    generation: int
    health: Health
    load: Load
    slots: int
    """Slots that it offers for the model in all."""
    free_slots: int
    queue_share: float = 0.0
    """How full its own queue is, 0 to 1."""
    paused: bool = False
    """It has just refused or failed a request for the model, and is left alone for a moment."""
    can_load: bool = True
    """It could load the model at once: memory is free, or can be freed without waiting for requests that run."""
    rivals: int = NOBODY
    """The most urgent class that waits for another model which is loaded there."""

    @property
    def needs_load(self) -> bool:
        """Whether the first request makes it load the model."""
        return self.load in (Load.LOADABLE, Load.UNLOADING, Load.FAILED)


class Need(NamedTuple):
    """What a ticket needs, and what is known about it."""

    slots: int = 1
    priority: Priority = Priority.NORMAL
    patient: bool = True
    """Whether it has waited less than it takes to force a load."""
    excluded: frozenset[str] = frozenset()
    """Replicas that have just failed it."""
    loaded_elsewhere: bool = False
    """Whether a live replica that is not excluded has the model in memory, or is loading it."""
    session: tuple[str, int] | None = None
    """The replica, with its generation, that served the conversation last."""
    prefixes: Mapping[tuple[str, int], float] = {}
    """By replica and generation: the part of the prompt that it has seen."""
