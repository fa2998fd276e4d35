"""What there is to measure: demand and capacity by model, replicas by health. Only models that replicas have announced, or that
are expected: no client's word becomes the name of a metric.

Demand is what autoscaling goes by: slots that run and slots that are waited for. What runs on a draining replica is left out.
That replica is on its way out and no longer counted by whoever scales, and its work needs no room anywhere else; counted, it
would call back the replica that a scale-down has just taken away, for as long as it drains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from trenza_scheduler.core.domain import Health, Load, ModelKey, Priority
from trenza_scheduler.core.expected import Expected
from trenza_scheduler.core.leases import LeaseBook
from trenza_scheduler.core.membership import Member, Membership
from trenza_scheduler.core.queue import Queue, Waiting
from trenza_scheduler.core.rooms import capacity


@dataclass(slots=True)
class ModelFigures:
    """One model over the whole fleet. Slots are added up; leases, tickets and replicas are counted."""

    capacity_slots: int = 0
    """Of live replicas with the model loaded."""
    leased_slots: int = 0
    """Running under leases, except on draining replicas."""
    foreign_slots: int = 0
    """Running without a lease of ours, except on draining replicas."""
    waiting_slots: int = 0
    """Waited for. A ticket counts for no more slots than it will get: all that one replica has."""
    leases: int = 0
    tickets: Counter[Priority] = field(default_factory=Counter)
    oldest_wait_s: float = 0.0
    """How long the ticket has waited that came first; 0 where none waits."""
    failed_replicas: int = 0
    """Replicas, not dead, on which the last attempt to load it failed."""
    served: bool = False
    """Whether a live replica takes requests for it."""
    replica_slots: int = 0
    """The most slots that one replica has, or is expected to have; 0 where that is not known."""

    @property
    def demand_slots(self) -> int:
        """Running and waiting work."""
        return self.leased_slots + self.foreign_slots + self.waiting_slots


@dataclass(frozen=True, slots=True)
class Figures:
    """The fleet and the queue in numbers. `unknown_tickets` wait for models that no replica has announced, at least not yet.

    Before the scheduler is `settled` it has not heard everybody, and demand and capacity may look less than they are.
    """

    models: Mapping[ModelKey, ModelFigures]
    replicas: Mapping[tuple[int, Health], int]
    unknown_tickets: int
    settled: bool = True


def figures(
    membership: Membership, leases: LeaseBook, queue: Queue, expected: Expected, now_s: float, settled: bool = True
) -> Figures:
    """Adds everything up. An expected model is always there; another without any replica as long as it is remembered and somebody
    waits for it or runs on it."""
    models = {key: ModelFigures(replica_slots=expected.slots(key)) for key in (*expected, *membership.models())}
    replicas: Counter[tuple[int, Health]] = Counter()
    for member in membership.all():
        replicas[member.report.modality, member.health] += 1
        _add_member(models, member)
    for lease in leases.all():
        if lease.key not in models and membership.unserved_since_s(lease.key) is None:
            continue
        figure = models.setdefault(lease.key, ModelFigures())
        figure.leases += 1
        holder = membership.get(lease.replica_id)
        if holder is None or not holder.report.draining:
            figure.leased_slots += lease.slots
    unknown = 0
    for waiting in queue.all():
        key = waiting.ticket.key
        if key in models or membership.unserved_since_s(key) is not None:
            _add_ticket(models.setdefault(key, ModelFigures()), waiting, now_s)
        else:
            unknown += 1
    return Figures(models, replicas, unknown, settled)


def _add_member(models: Mapping[ModelKey, ModelFigures], member: Member) -> None:
    live = member.health is Health.LIVE
    for name, model in member.report.models.items():
        figure = models[ModelKey(member.report.modality, name)]
        figure.replica_slots = max(figure.replica_slots, capacity(model))
        figure.failed_replicas += model.load is Load.FAILED
        figure.served |= live and model.load not in (Load.FAILED, Load.UNKNOWN)
        if not member.report.draining:
            figure.foreign_slots += member.foreign.get(name, 0)
        if live and model.load is Load.LOADED:
            figure.capacity_slots += model.slots


def _add_ticket(figure: ModelFigures, waiting: Waiting, now_s: float) -> None:
    slots = waiting.ticket.slots
    figure.waiting_slots += min(slots, figure.replica_slots) if figure.replica_slots else slots
    figure.tickets[waiting.ticket.priority] += 1
    figure.oldest_wait_s = max(figure.oldest_wait_s, now_s - waiting.arrived_s)
