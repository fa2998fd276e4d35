"""What there is to measure: demand and capacity by model, replicas by health. Only models that replicas have announced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from trenza_scheduler.core.domain import Health, Load, ModelKey, Priority
from trenza_scheduler.core.leases import LeaseBook
from trenza_scheduler.core.membership import Membership
from trenza_scheduler.core.queue import Queue


@dataclass(slots=True)
class ModelFigures:
    """One model over the whole fleet. Slots are added up; leases and tickets are counted."""

    capacity_slots: int = 0
    leased_slots: int = 0
    foreign_slots: int = 0
    waiting_slots: int = 0
    leases: int = 0
    tickets: Counter[Priority] = field(default_factory=Counter)

    @property
    def demand_slots(self) -> int:
        """Running and waiting work."""
        return self.leased_slots + self.foreign_slots + self.waiting_slots


@dataclass(frozen=True, slots=True)
class Figures:
    """The fleet and the queue in numbers. `unknown_tickets` wait for models that no replica has announced, at least not yet."""

    models: Mapping[ModelKey, ModelFigures]
    replicas: Mapping[tuple[int, Health], int]
    unknown_tickets: int


def figures(membership: Membership, leases: LeaseBook, queue: Queue) -> Figures:
    """Adds everything up. A model without any replica counts as long as somebody waits for it and it is remembered."""
    models: dict[ModelKey, ModelFigures] = {key: ModelFigures() for key in membership.models()}
    unknown = 0
    for waiting in queue.all():
        key = waiting.ticket.key
        if key not in models and membership.unserved_since_s(key) is None:
            unknown += 1
            continue
        figure = models.setdefault(key, ModelFigures())
        figure.waiting_slots += waiting.ticket.slots
        figure.tickets[waiting.ticket.priority] += 1
    for lease in leases.all():
        if lease.key in models:
            models[lease.key].leases += 1
            models[lease.key].leased_slots += lease.slots
    replicas: Counter[tuple[int, Health]] = Counter()
    for member in membership.all():
        replicas[member.report.modality, member.health] += 1
        for name, model in member.report.models.items():
            figure = models[ModelKey(member.report.modality, name)]
            figure.foreign_slots += member.foreign.get(name, 0)
            if model.load is Load.LOADED and member.health is Health.LIVE:
                figure.capacity_slots += model.slots
    return Figures(models, replicas, unknown)
