"""The scheduler as a state machine: an event in, actions out. Same events, times and random numbers, same actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from trenza_scheduler.core.affinity import Affinity
from trenza_scheduler.core.domain import (
    Action,
    Event,
    GatewayClosed,
    GatewayOpened,
    Grant,
    Health,
    Lease,
    LeaseReleased,
    Limits,
    Load,
    Priority,
    PushSnapshot,
    QueueUpdate,
    Reason,
    Refuse,
    ReplicaBeat,
    ReplicaLeft,
    ReplicaStreamLost,
    ShutDown,
    Tick,
    Ticket,
    TicketArrived,
    TicketCancelled,
)
from trenza_scheduler.core.fleet import Fleet, Replica
from trenza_scheduler.core.queue import Queue, Waiting
from trenza_scheduler.core.routing.filters import FILTERS
from trenza_scheduler.core.routing.pick import Choice, choose
from trenza_scheduler.core.routing.views import ReplicaView
from trenza_scheduler.core.stories import State, Stories

_SERVICE_S_AT_FIRST = 5.0
_SERVICE_WEIGHT = 0.1
_RETRY_S = (1.0, 60.0)

_WAITING_FOR = {
    "model": "a replica that serves the model",
    "health": "a replica that is not suspect or draining",
    "excluded": "another replica than those that failed",
    "room": "a free slot",
    "swap": "those who wait for a model that is loaded",
}


@dataclass(frozen=True, slots=True)
class ModelCount:
    """Slots of one model over the fleet: what is asked for (running and waiting), and what there is."""

    modality: int
    running_slots: int
    waiting_slots: int
    capacity_slots: int


class Machine:
    """All that the scheduler knows. Has one owner, who passes events in order and carries out what comes back.

    `epoch` names this life of the scheduler; `started_s` is the clock's value at its beginning.
    """

    def __init__(self, limits: Limits, epoch: str, started_s: float) -> None:
        self.fleet = Fleet(limits)
        self.queue = Queue()
        self.stories = Stories(limits.remembered_stories)
        self.settled = False
        self._limits = limits
        self._epoch = epoch
        self._settles_s = started_s + limits.settle_intervals * limits.heartbeat_interval_s
        self._affinity = Affinity(limits.remembered_sessions, limits.remembered_prefixes)
        self._streams: dict[str, str] = {}
        self._leases_granted = 0
        self._service_s: dict[str, float] = {}
        self._health: dict[str, Health] = {}
        self._closing = False

    def apply(self, event: Event, now_s: float, rng: Random) -> list[Action]:
        """Takes in an event and returns what is to be done about it, in this order."""
        match event:
            case TicketArrived(ticket):
                return list(self._arrive(ticket, now_s, rng))
            case LeaseReleased():
                return list(self._release(event, now_s, rng))
            case TicketCancelled(stream, request_id):
                return list(self._cancel(stream, request_id, now_s, rng))
            case ReplicaBeat(stream, report):
                changed = self.fleet.beat(stream, report, now_s)
                self._health[report.replica_id] = self.fleet.replicas[report.replica_id].health(now_s, self._limits)
                news: list[Action] = [PushSnapshot()] if changed else []
                return [*news, *self._dispatch(now_s, rng)]
            case ReplicaStreamLost(stream, replica_id):
                return list(self._lose(stream, replica_id))
            case ReplicaLeft(replica_id):
                self._health.pop(replica_id, None)
                return [PushSnapshot()] if self.fleet.remove(replica_id, now_s) else []
            case GatewayOpened():
                return list(self._open(event, now_s, rng))
            case GatewayClosed(stream):
                return list(self._close(stream, now_s, rng))
            case Tick():
                return list(self._tick(now_s, rng))
            case ShutDown():
                self._closing = True
                return [self._refuse(waiting, Reason.SHUTTING_DOWN, now_s) for waiting in list(self.queue.all())]

    def health(self, replica: Replica, now_s: float) -> Health:
        """How a replica is."""
        return replica.health(now_s, self._limits)

    def replicas(self) -> Iterator[tuple[Replica, Health]]:
        """Every replica that is not dead, and how it was at the last event."""
        for name, replica in self.fleet.replicas.items():
            yield replica, self._health.get(name, Health.SUSPECT)

    def counts(self) -> dict[str, ModelCount]:
        """Demand and capacity by model, for models that replicas have announced."""
        running: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        for lease in self.fleet.leases.values():
            running[lease.model] += lease.slots
        for entry in self.queue.all():
            waiting[entry.ticket.model] += entry.ticket.slots
        capacity: Counter[str] = Counter()
        modality: dict[str, int] = {}
        for name, replica in self.fleet.replicas.items():
            for model, report in replica.report.models.items():
                modality[model] = replica.report.modality
                usable = report.load is Load.LOADED and self._health.get(name) is Health.LIVE
                capacity[model] += report.slots if usable else 0
        return {
            model: ModelCount(kind, running[model], waiting[model], capacity[model]) for model, kind in modality.items()
        }

    # Tickets

    def _arrive(self, ticket: Ticket, now_s: float, rng: Random) -> Iterator[Action]:
        ticket = replace(ticket, wait_limit_s=min(ticket.wait_limit_s, self._limits.longest_wait_s))
        key = (ticket.stream, ticket.request_id)
        if not ticket.model or not ticket.request_id or ticket.slots < 1 or key in self.queue:
            yield self._refusal(ticket, Reason.INVALID_TICKET)
            return
        self.stories.begin(ticket.request_id, now_s)
        if refused := self._refused_at_once(ticket):
            self.stories.ended(ticket.request_id, now_s, State.REFUSED, refused.value)
            yield self._refusal(ticket, refused)
            return
        waiting = self.queue.join(ticket, now_s)
        yield from self._dispatch_line(ticket.model, now_s, rng)
        if key not in self.queue:
            return
        if len(self.queue) > self._limits.queue_tickets:
            yield self._refuse(waiting, Reason.QUEUE_FULL, now_s)
        else:
            yield self._tell_position(waiting)

    def _refused_at_once(self, ticket: Ticket) -> Reason | None:
        if self._closing:
            return Reason.SHUTTING_DOWN
        replicas = list(self.fleet.serving(ticket.model, ticket.modality))
        if replicas and ticket.slots > max(replica.report.models[ticket.model].slots for replica in replicas):
            return Reason.NO_CAPACITY
        if self.settled and not replicas and not self.fleet.knows(ticket.model, ticket.modality):
            return Reason.MODEL_NOT_FOUND
        return None

    def _cancel(self, stream: str, request_id: str, now_s: float, rng: Random) -> Iterator[Action]:
        waiting = self.queue.leave(stream, request_id)
        if waiting is not None:
            self.stories.ended(request_id, now_s, State.CANCELLED)
            yield from self._dispatch(
                now_s, rng
            )  # it may have kept a smaller one waiting, or another model from loading

    def _release(self, event: LeaseReleased, now_s: float, rng: Random) -> Iterator[Action]:
        lease = self.fleet.leases.get(event.lease_id)
        if lease is None or lease.stream != event.stream:
            return
        self.fleet.end_lease(event.lease_id)
        self.stories.ended(lease.request_id, now_s, State.RELEASED)
        if event.served:
            known = self._service_s.get(lease.model, _SERVICE_S_AT_FIRST)
            self._service_s[lease.model] = known + _SERVICE_WEIGHT * (now_s - lease.since_s - known)
        yield from self._dispatch(now_s, rng)

    # Gateways and replicas

    def _open(self, event: GatewayOpened, now_s: float, rng: Random) -> Iterator[Action]:
        """A gateway that comes back may be here before the end of its old stream is noticed: the old one is over then."""
        for stream, gateway_id in list(self._streams.items()):
            if gateway_id == event.gateway_id:
                yield from self._close(stream, now_s, rng)
        self._streams[event.stream] = event.gateway_id
        for held in event.held:
            replica = self.fleet.replicas.get(held.replica_id)
            self.fleet.add_lease(
                Lease(
                    lease_id=held.lease_id,
                    stream=event.stream,
                    request_id=held.request_id,
                    replica_id=held.replica_id,
                    model=held.model,
                    modality=held.modality,
                    slots=held.slots,
                    since_s=now_s,
                    generation=replica.report.generation if replica else None,
                )
            )
        yield PushSnapshot()

    def _close(self, stream: str, now_s: float, rng: Random) -> Iterator[Action]:
        self._streams.pop(stream, None)
        for waiting in self.queue.of_stream(stream):
            self.queue.leave(stream, waiting.ticket.request_id)
            self.stories.ended(waiting.ticket.request_id, now_s, State.CANCELLED)
        for lease in [lease for lease in self.fleet.leases.values() if lease.stream == stream]:
            self.fleet.end_lease(lease.lease_id)
            self.stories.ended(lease.request_id, now_s, State.RELEASED)
        yield from self._dispatch(now_s, rng)

    def _lose(self, stream: str, replica_id: str) -> Iterator[Action]:
        replica = self.fleet.replicas.get(replica_id)
        if replica is not None and replica.stream == stream:
            replica.connected = False
            self._health[replica_id] = Health.SUSPECT
            yield PushSnapshot()

    def _tick(self, now_s: float, rng: Random) -> Iterator[Action]:
        if not self.settled and now_s >= self._settles_s:
            self.settled = True
            yield PushSnapshot()
        if self.fleet.remove_dead(now_s):
            yield PushSnapshot()
        health = {name: replica.health(now_s, self._limits) for name, replica in self.fleet.replicas.items()}
        if health != self._health:
            self._health = health
            yield PushSnapshot()
        for waiting in self.queue.expired(now_s):
            yield self._refuse(waiting, self._reason_of_expiry(waiting.ticket), now_s)
        if self.settled:
            for waiting in [w for w in self.queue.all() if not self.fleet.knows(w.ticket.model, w.ticket.modality)]:
                yield self._refuse(waiting, Reason.MODEL_NOT_FOUND, now_s)
        yield from self._dispatch(now_s, rng)
        for waiting in self.queue.all():
            if self.queue.position(waiting) != waiting.told_position:
                yield self._tell_position(waiting)

    def _reason_of_expiry(self, ticket: Ticket) -> Reason:
        live = any(
            self._health.get(replica.report.replica_id) is Health.LIVE
            for replica in self.fleet.serving(ticket.model, ticket.modality)
        )
        return Reason.WAIT_LIMIT_EXCEEDED if live else Reason.NO_CAPACITY

    # Dispatch

    def _dispatch(self, now_s: float, rng: Random) -> Iterator[Action]:
        for model in self.queue.models():
            yield from self._dispatch_line(model, now_s, rng)

    def _dispatch_line(self, model: str, now_s: float, rng: Random) -> Iterator[Action]:
        """Places the tickets for a model in their order, as far as there is room.

        The first that finds none keeps those behind it waiting, or a request for many slots would wait for ever; one
        that is only kept from replicas which failed it does not.
        """
        for waiting in list(self.queue.line(model)):
            choice = choose(waiting.ticket, list(self._views(waiting, now_s)), rng)
            if choice.replica is not None:
                yield self._grant(waiting, choice, choice.replica, now_s)
                continue
            self.stories.waits(waiting.ticket.request_id, _waiting_for(choice), choice.candidates)
            if not waiting.ticket.excluded:
                return

    def _views(self, waiting: Waiting, now_s: float) -> Iterator[ReplicaView]:
        ticket = waiting.ticket
        replicas = list(self.fleet.serving(ticket.model, ticket.modality))
        live = {r.report.replica_id for r in replicas if r.health(now_s, self._limits) is Health.LIVE}
        avoidable = ticket.excluded if live - ticket.excluded else frozenset()
        for replica in replicas:
            name, model = replica.report.replica_id, replica.report.models[ticket.model]
            cold = model.load not in (Load.LOADED, Load.LOADING)
            yield ReplicaView(
                replica_id=name,
                address=replica.report.address,
                generation=replica.report.generation,
                health=replica.health(now_s, self._limits),
                load=model.load,
                slots=model.slots,
                free_slots=self.fleet.free_slots(replica, ticket.model),
                excluded=name in avoidable,
                keeps_others_waiting=cold and self._others_wait_for_loaded(replica, ticket.model),
                has_session=self._affinity.has_session(ticket.model, ticket.session_id, name),
                prefix_share=self._affinity.prefix_share(ticket.model, ticket.prefix_hashes, name),
            )

    def _others_wait_for_loaded(self, replica: Replica, model: str) -> bool:
        """Whether tickets that are not background wait for another model that the replica has in memory."""
        for name, report in replica.report.models.items():
            line = self.queue.line(name)
            if name != model and report.load is Load.LOADED and line and line[0].priority < Priority.BACKGROUND:
                return True
        return False

    def _grant(self, waiting: Waiting, choice: Choice, replica: ReplicaView, now_s: float) -> Grant:
        ticket = waiting.ticket
        self.queue.leave(ticket.stream, ticket.request_id)
        self._leases_granted += 1
        lease = Lease(
            lease_id=f"{self._epoch}-{self._leases_granted}",
            stream=ticket.stream,
            request_id=ticket.request_id,
            replica_id=replica.replica_id,
            model=ticket.model,
            modality=ticket.modality,
            slots=ticket.slots,
            since_s=now_s,
            generation=replica.generation,
        )
        self.fleet.add_lease(lease)
        self._affinity.note(ticket.model, ticket.session_id, ticket.prefix_hashes, replica.replica_id)
        self.stories.granted(ticket.request_id, now_s, replica.replica_id, choice.candidates)
        is_loaded = replica.load is Load.LOADED
        return Grant(lease, replica.address, is_loaded, now_s - waiting.arrived_s, ticket.priority)

    # Answers

    def _refuse(self, waiting: Waiting, reason: Reason, now_s: float) -> Refuse:
        """Refuses a ticket that waits."""
        self.queue.leave(waiting.ticket.stream, waiting.ticket.request_id)
        self.stories.ended(waiting.ticket.request_id, now_s, State.REFUSED, reason.value)
        return self._refusal(waiting.ticket, reason)

    def _refusal(self, ticket: Ticket, reason: Reason) -> Refuse:
        final = reason in (Reason.MODEL_NOT_FOUND, Reason.INVALID_TICKET)
        expected_s = self._expected_wait_s(ticket, len(self.queue))
        retry_after_s = 0.0 if final else max(_RETRY_S[0], min(_RETRY_S[1], expected_s))
        return Refuse(ticket.stream, ticket.request_id, reason, _message(ticket, reason), retry_after_s)

    def _tell_position(self, waiting: Waiting) -> QueueUpdate:
        ticket = waiting.ticket
        waiting.told_position = position = self.queue.position(waiting)
        return QueueUpdate(ticket.stream, ticket.request_id, position, self._expected_wait_s(ticket, position + 1))

    def _expected_wait_s(self, ticket: Ticket, turns: int) -> float:
        """How long `turns` requests for a model take on all its slots together."""
        replicas = self.fleet.serving(ticket.model, ticket.modality)
        slots = sum(replica.report.models[ticket.model].slots for replica in replicas)
        return turns * self._service_s.get(ticket.model, _SERVICE_S_AT_FIRST) / max(1, slots)


def _waiting_for(choice: Choice) -> str:
    """What the ticket waits for: whatever ruled out the replicas that came furthest."""
    reasons = [candidate.ruled_out_by for candidate in choice.candidates]
    furthest = max(reasons, key=list(FILTERS).index, default="model")
    return _WAITING_FOR[furthest]


def _message(ticket: Ticket, reason: Reason) -> str:
    """A sentence for people."""
    model = repr(ticket.model[:128])
    return {
        Reason.MODEL_NOT_FOUND: f"No replica has a model {model}.",
        Reason.NO_CAPACITY: f"No replica can serve the model {model} with {ticket.slots} slot(s) now.",
        Reason.QUEUE_FULL: "The queue is full; the request was not let in.",
        Reason.WAIT_LIMIT_EXCEEDED: f"The model {model} had no free slot within {ticket.wait_limit_s:g} s.",
        Reason.SHUTTING_DOWN: "The scheduler is stopping.",
        Reason.INVALID_TICKET: "The ticket names no model or no request, or its request is waiting already.",
    }[reason]
