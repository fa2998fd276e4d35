"""The scheduler as a state machine: an event in, actions out. Same events, times and random numbers, same actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from trenza_scheduler.core import refusals
from trenza_scheduler.core.actions import (
    Action,
    CutGateway,
    CutReplica,
    PushSnapshot,
    QueueUpdate,
    Refuse,
    ReplicaChanged,
)
from trenza_scheduler.core.domain import Health, Lease, Load, ModelKey, Outcome, Reason, Ticket
from trenza_scheduler.core.events import (
    Event,
    FromGateway,
    FromReplica,
    GatewayClosed,
    GatewayOpened,
    LeaseReleased,
    ReplicaBeat,
    ReplicaLeft,
    ReplicaStreamLost,
    ShutDown,
    Tick,
    TicketArrived,
    TicketCancelled,
)
from trenza_scheduler.core.expected import Expected
from trenza_scheduler.core.figures import Figures, figures
from trenza_scheduler.core.leases import LeaseBook
from trenza_scheduler.core.limits import Limits
from trenza_scheduler.core.membership import Hearing, Member, Membership
from trenza_scheduler.core.pace import Pace
from trenza_scheduler.core.placing import Placer
from trenza_scheduler.core.queue import Queue, Waiting
from trenza_scheduler.core.rooms import foreign_slots
from trenza_scheduler.core.stories import State, Story

_NEVER = float("inf")


class Machine:
    """All that the scheduler knows. Has one owner, who passes events in order and carries out what comes back.

    `epoch` names this life of the scheduler; `started_s` is the clock's value at its beginning. `expected` are models that the
    cluster can serve even while no replica announces them, each with the slots that one replica will have, 0 where that is not
    known. The owner has to pass a Tick at `wake_s`, and may pass one whenever it likes.
    """

    def __init__(
        self, limits: Limits, epoch: str, started_s: float, expected: Mapping[ModelKey, int] | None = None
    ) -> None:
        self.expected = Expected(expected or {})
        self.membership = Membership(limits)
        self.leases = LeaseBook(limits.lease_echo_s)
        self.queue = Queue()
        self.settled = False
        self.wake_s = started_s + limits.settle_s
        self._limits = limits
        self._settles_s = started_s + limits.settle_s
        self._placer = Placer(limits, epoch, self.membership, self.leases, self.queue)
        self._pace = Pace()
        self._gateways: dict[str, str] = {}
        self._positions_due_s = started_s
        self._positions_stale: dict[ModelKey, None] = {}
        self._closing = False

    def apply(self, event: Event, now_s: float, rng: Random) -> list[Action]:
        """Takes in an event and returns what is to be done about it, in this order."""
        actions = list(self._handle(event, now_s))
        for grant in self._placer.run(now_s, rng):
            actions.append(grant)
            self._positions_stale[grant.lease.key] = None
        if isinstance(event, TicketArrived):
            actions += self._welcome(event.ticket)
        elif isinstance(event, Tick) and self._positions_stale and now_s >= self._positions_due_s:
            actions += self._tell_positions(now_s)
        self._set_wake(event, now_s)
        return actions

    def figures(self, now_s: float) -> Figures:
        """Everything in numbers."""
        return figures(self.membership, self.leases, self.queue, self.expected, now_s, self.settled)

    def knows(self, key: ModelKey) -> bool:
        """Whether a model is announced, is expected, or was announced lately."""
        remembered = self.membership.unserved_since_s(key) is not None
        return key in self.expected or remembered or bool(self.membership.serving(key))

    def story(self, request_id: str, now_s: float) -> Story | None:
        """What became of a request, or what it waits for; None where it is not remembered."""
        for waiting in self.queue.all():
            if waiting.ticket.request_id == request_id:
                waiting_for, candidates = self._placer.explain(waiting, now_s)
                waited_s = now_s - waiting.arrived_s
                return Story(request_id, State.WAITING, waited_s, waiting_for=waiting_for, candidates=candidates)
        return self._placer.stories.get(request_id)

    def _handle(self, event: Event, now_s: float) -> Iterator[Action]:
        match event:
            case TicketArrived() | TicketCancelled() | LeaseReleased() | GatewayOpened() | GatewayClosed():
                yield from self._hear_gateway(event, now_s)
            case ReplicaBeat() | ReplicaStreamLost() | ReplicaLeft():
                yield from self._hear_replica(event, now_s)
            case Tick():
                yield from self._tick(now_s)
            case ShutDown():
                self._closing = True
                for waiting in list(self.queue.all()):
                    yield self._evict(waiting, Reason.SHUTTING_DOWN, now_s)

    def _hear_gateway(self, event: FromGateway, now_s: float) -> Iterator[Action]:
        match event:
            case TicketArrived(ticket):
                yield from self._arrive(ticket, now_s)
            case TicketCancelled(stream, request_id):
                if waiting := self.queue.find(stream, request_id):
                    self._take_out(waiting, State.CANCELLED, now_s)
            case LeaseReleased():
                self._release(event, now_s)
            case GatewayOpened():
                yield from self._open(event, now_s)
            case GatewayClosed(stream):
                self._close(stream, now_s)

    def _hear_replica(self, event: FromReplica, now_s: float) -> Iterator[Action]:
        match event:
            case ReplicaBeat():
                yield from self._beat(event, now_s)
            case ReplicaStreamLost(stream, replica_id):
                if lost := self.membership.lose(stream, replica_id, now_s):
                    yield from self._changed(lost, "suspect")
            case ReplicaLeft(stream, replica_id):
                if gone := self.membership.leave(stream, replica_id, now_s):
                    yield from self._changed(gone, "left")

    # Tickets and leases

    def _arrive(self, ticket: Ticket, now_s: float) -> Iterator[Refuse]:
        reason = self._refused_at_once(ticket, now_s)
        if reason is None:
            waiting = self.queue.join(ticket, now_s, self._limits.longest_wait_s)
            self._placer.arrived(waiting)
            if self.queue.line(ticket.key)[-1] is not waiting:
                self._positions_stale[ticket.key] = None
            return
        if reason is not Reason.INVALID_TICKET:  # one that is wrong must not overwrite the story of the right one
            self._placer.stories.put(Story(ticket.request_id, State.REFUSED, 0.0))
        yield self._refusal(ticket, reason, 0.0)

    def _refused_at_once(self, ticket: Ticket, now_s: float) -> Reason | None:
        if self._closing:
            return Reason.SHUTTING_DOWN
        if ticket.stream not in self._gateways or ticket.slots < 1:
            return Reason.INVALID_TICKET
        used = self.queue.find(ticket.stream, ticket.request_id)
        if used or self.leases.has_request(ticket.stream, ticket.request_id):
            return Reason.INVALID_TICKET
        return self._hopeless(ticket.key, now_s)

    def _hopeless(self, key: ModelKey, now_s: float) -> Reason | None:
        """Why waiting for a model makes no sense; None where it does, as it always does for an expected one."""
        if key in self.expected:
            return None
        unserved_since_s = self.membership.unserved_since_s(key)
        if unserved_since_s is not None:
            return Reason.NO_CAPACITY if now_s >= unserved_since_s + self._limits.absence_wait_s else None
        if self.membership.serving(key) or not self.settled:
            return None
        return Reason.MODEL_NOT_FOUND if self.membership.remembers_any or self.expected else Reason.NO_CAPACITY

    def _welcome(self, ticket: Ticket) -> Iterator[Action]:
        """What a ticket hears at once that has just come and got no place."""
        waiting = self.queue.find(ticket.stream, ticket.request_id)
        if waiting is None or waiting.ticket is not ticket:
            return
        if len(self.queue) > self._limits.queue_tickets:
            yield self._evict(waiting, Reason.QUEUE_FULL, waiting.arrived_s)
        else:
            yield self._tell_position(waiting, self.queue.position(waiting), self._working_slots(ticket.key))

    def _release(self, event: LeaseReleased, now_s: float) -> None:
        lease = self.leases.get(event.lease_id)
        if lease is None or lease.stream != event.stream:
            return
        self._end_lease(lease, now_s)
        member = self.membership.get(lease.replica_id)
        if member is None or member.report.generation != lease.generation:
            return
        if event.outcome is Outcome.COMPLETED:
            self._pace.note(lease.key, lease.slots, now_s - lease.since_s)
            member.pauses.pop(lease.key.name, None)
        elif event.outcome in (Outcome.REPLICA_BUSY, Outcome.REPLICA_FAILED):
            self.membership.pause(member, lease.key.name, now_s, self._limits.first_pause_s)

    def _end_lease(self, lease: Lease, now_s: float) -> None:
        self.leases.end(lease.lease_id, now_s)
        self._placer.stories.released(lease.request_id)
        self._placer.touch(lease.key)

    def _take_out(self, waiting: Waiting, state: State, now_s: float) -> None:
        """Removes a ticket from the queue that gets no place. Near the head it may have kept others behind it waiting."""
        if self.queue.position(waiting) <= self._limits.lookahead_tickets:
            self._placer.touch(waiting.ticket.key)
        self.queue.leave(waiting)
        self._placer.stories.put(Story(waiting.ticket.request_id, state, now_s - waiting.arrived_s))
        self._positions_stale[waiting.ticket.key] = None

    # Gateways

    def _open(self, event: GatewayOpened, now_s: float) -> Iterator[Action]:
        """A gateway that comes back may be here before the end of its old stream is noticed: the old one is over then."""
        for stream in [stream for stream, gateway_id in self._gateways.items() if gateway_id == event.gateway_id]:
            self._close(stream, now_s)
            yield CutGateway(stream, "A newer stream of the same gateway has taken over.")
        self._gateways[event.stream] = event.gateway_id
        for held in event.held:
            member = self.membership.get(held.replica_id)
            lease = Lease(
                lease_id=held.lease_id,
                stream=event.stream,
                request_id=held.request_id,
                replica_id=held.replica_id,
                key=held.key,
                slots=held.slots,
                since_s=now_s,
                generation=member.report.generation if member else None,
            )
            if self.leases.add(lease, now_s):
                self._placer.stories.put(Story(held.request_id, State.GRANTED, 0.0, held.replica_id))
                if member and member.foreign.get(held.key.name):  # it was not known yet whose request that was
                    member.foreign[held.key.name] = max(0, member.foreign[held.key.name] - held.slots)

    def _close(self, stream: str, now_s: float) -> None:
        self._gateways.pop(stream, None)
        for waiting in self.queue.of_stream(stream):
            self._take_out(waiting, State.CANCELLED, now_s)
        for lease in self.leases.of_stream(stream):
            self._end_lease(lease, now_s)

    # Replicas

    def _beat(self, event: ReplicaBeat, now_s: float) -> Iterator[Action]:
        report = event.report
        before = self.membership.get(report.replica_id)
        gist, foreign = _gist(before), dict(before.foreign) if before else {}
        heard = self.membership.beat(event.stream, report, now_s)
        if heard.hearing is Hearing.TURNED_AWAY:
            message = f"Another process beats as {report.replica_id!r}: give every replica a name of its own."
            yield CutReplica(event.stream, message)
            return
        if heard.replaced_stream is not None:
            yield CutReplica(heard.replaced_stream, "A newer stream of the same replica has taken over.")
        for lease in self.leases.settle_generation(report.replica_id, report.generation, now_s):
            self._placer.stories.released(lease.request_id)
        member = self.membership.get(report.replica_id)
        assert member is not None
        self.expected.note(report)
        member.foreign = foreign_slots(member, self.leases, now_s)
        freed = [key for key in report.model_keys() if member.foreign.get(key.name, 0) < foreign.get(key.name, 0)]
        for key in (*heard.touched, *freed):
            self._placer.touch(key)
        if heard.news:
            yield ReplicaChanged(report.replica_id, heard.news)
        if _gist(member) != gist:
            yield PushSnapshot()

    def _changed(self, member: Member, change: str) -> Iterator[Action]:
        for key in member.report.model_keys():
            self._placer.touch(key)
        yield ReplicaChanged(member.report.replica_id, change)
        yield PushSnapshot()

    # Time

    def _tick(self, now_s: float) -> Iterator[Action]:
        late_s = now_s - self.wake_s
        if late_s > self._limits.stall_s:
            self.membership.forgive(late_s, now_s)
        if not self.settled and now_s >= self._settles_s:
            self.settled = True
            yield PushSnapshot()
        suspect, dead = self.membership.tick(now_s)
        for member in suspect:
            yield from self._changed(member, "suspect")
        for member in dead:
            yield from self._changed(member, "dead")
        yield from self._refuse_hopeless(now_s)
        self._placer.tick(now_s)
        self.leases.forget_past(now_s)
        self._pace.keep_only(set(self.membership.models()))

    def _refuse_hopeless(self, now_s: float) -> Iterator[Action]:
        for waiting in [waiting for waiting in self.queue.all() if now_s >= waiting.expires_s]:
            yield self._evict(waiting, Reason.WAIT_LIMIT_EXCEEDED, now_s)
        for key in self.queue.models():
            if reason := self._hopeless(key, now_s):
                for waiting in list(self.queue.line(key)):
                    yield self._evict(waiting, reason, now_s)

    def _tell_positions(self, now_s: float) -> Iterator[Action]:
        self._positions_due_s = now_s + self._limits.position_interval_s
        for key in self._positions_stale:
            slots = self._working_slots(key)
            for position, waiting in enumerate(self.queue.line(key)):
                if waiting.told_position != position:
                    yield self._tell_position(waiting, position, slots)
        self._positions_stale.clear()

    def _set_wake(self, event: Event, now_s: float) -> None:
        """Finds the next moment at which something is due. Between ticks it only ever comes nearer, which is cheap to follow."""
        wakes = [self._placer.wake_s()]
        if self._positions_stale:
            wakes.append(max(self._positions_due_s, now_s))
        if not self.settled:
            wakes.append(self._settles_s)
        match event:
            case Tick():
                wakes.append(self.membership.wake_s())
                wakes += [waiting.expires_s for waiting in self.queue.all()]
                wakes += [self._absence_ends_s(key) for key in self.queue.models()]
                self.wake_s = _NEVER
            case TicketArrived(ticket):
                if waiting := self.queue.find(ticket.stream, ticket.request_id):
                    wakes += [waiting.expires_s, self._absence_ends_s(ticket.key)]
            case ReplicaBeat() | ReplicaLeft():
                wakes.append(now_s + self._limits.suspect_after_s)
                wakes.append(now_s + self._limits.absence_wait_s)
            case _:
                pass
        self.wake_s = min(self.wake_s, *wakes)

    def _absence_ends_s(self, key: ModelKey) -> float:
        since_s = None if key in self.expected else self.membership.unserved_since_s(key)
        return _NEVER if since_s is None else since_s + self._limits.absence_wait_s

    # Answers

    def _evict(self, waiting: Waiting, reason: Reason, now_s: float) -> Refuse:
        """Refuses a ticket that is in the queue."""
        refusal = self._refusal(waiting.ticket, reason, now_s - waiting.arrived_s)
        self._take_out(waiting, State.REFUSED, now_s)
        return refusal

    def _refusal(self, ticket: Ticket, reason: Reason, waited_s: float) -> Refuse:
        retry_after_s = 0.0
        if refusals.may_be_tried_again(reason):
            turns = len(self.queue.line(ticket.key))
            retry_after_s = self._pace.retry_after_s(ticket.key, turns, self._working_slots(ticket.key))
        started = bool(self.membership.serving(ticket.key))
        message = refusals.message(ticket, reason, waited_s, self._limits.queue_tickets, started)
        return Refuse(ticket.stream, ticket.request_id, reason, message, retry_after_s)

    def _tell_position(self, waiting: Waiting, position: int, slots: int) -> QueueUpdate:
        ticket = waiting.ticket
        waiting.told_position = position
        expected_s = self._pace.expected_wait_s(ticket.key, position + 1, slots)
        return QueueUpdate(ticket.stream, ticket.request_id, position, expected_s)

    def _working_slots(self, key: ModelKey) -> int:
        return sum(
            member.report.models[key.name].slots
            for member in self.membership.serving(key).values()
            if member.health is Health.LIVE and member.report.models[key.name].load is Load.LOADED
        )


def _gist(member: Member | None) -> object:
    """What gateways route by. Slots in use are left out: they change with every request."""
    if member is None:
        return None
    report = member.report
    models = [(name, model.load, model.slots) for name, model in report.models.items()]
    return member.health, report.generation, report.address, report.draining, models
