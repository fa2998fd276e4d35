"""Storms: random events from a seed, with a ledger of its own beside the machine that must agree with it."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections import Counter
from random import Random

from trenza_scheduler.core.actions import Action, CutGateway, CutReplica, Grant, QueueUpdate, Refuse
from trenza_scheduler.core.domain import (
    Health,
    HeldLease,
    Lease,
    Load,
    ModelKey,
    ModelReport,
    Outcome,
    Priority,
    Reason,
    ReplicaReport,
    Ticket,
)
from trenza_scheduler.core.events import (
    Event,
    GatewayClosed,
    GatewayOpened,
    LeaseReleased,
    ReplicaBeat,
    ReplicaLeft,
    ReplicaStreamLost,
    Tick,
    TicketArrived,
    TicketCancelled,
)
from trenza_scheduler.core.limits import Limits
from trenza_scheduler.core.machine import Machine
from trenza_scheduler.core.rooms import capacity

MODELS = ("alpha", "beta", "gamma")
EXPECTED = ("gamma", "delta")
"""The second has never a replica."""
CHAT = 1
LIMITS = Limits(queue_tickets=6, longest_wait_s=30.0, absence_wait_s=3.0, absence_memory_s=40.0, remembered_stories=64)


class Storm:
    """A fleet of six replicas and three gateways in which anything happens at any time."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.rng = Random(seed + 1)
        self.machine = Machine(LIMITS, "e", 0.0, {ModelKey(CHAT, name): 2 for name in EXPECTED})
        self.now_s = 0.0
        self.trace: list[tuple[float, Action]] = []
        self.open: dict[tuple[str, str], Ticket] = {}
        """Tickets that have not been answered."""
        self.leases: dict[str, Lease] = {}
        """By lease id, as grants told and until their end."""
        self.streams: dict[str, str] = {}
        self.replica_streams: dict[str, str] = {}
        self.reports: dict[str, ReplicaReport] = {}
        self._numbers = itertools.count(1)

    def run(self, steps: int) -> None:
        """Raises AssertionError as soon as a rule is broken."""
        for _ in range(steps):
            self._pass_time()
            self._apply(self._event())
        for gateway_id in list(self.streams):
            self._apply(self._close(gateway_id))
        assert not self.open
        assert not self.leases
        assert not len(self.machine.leases), "leases have leaked"
        assert not len(self.machine.queue), "tickets have leaked"
        assert not any(self.machine.leases.slots_of_replica(replica_id) for replica_id in self.reports)

    def digest(self) -> str:
        """Stands for everything that was done, in order."""
        return hashlib.sha256(repr(self.trace).encode()).hexdigest()

    # What happens

    def _pass_time(self) -> None:
        target_s = self.now_s + self.dice.choice((0.0, 0.001, 0.05, 0.3, 1.5)) * self.dice.random()
        while self.machine.wake_s <= target_s and self.dice.random() < 0.95:  # now and then a tick is late
            self.now_s = max(self.now_s, self.machine.wake_s)
            self._apply(Tick())
        self.now_s = target_s

    def _event(self) -> Event:
        makers = [self._ticket] * 8 + [self._release] * 7 + [self._cancel] + [self._beat] * 10
        makers += [self._lose, self._leave, self._open_or_close, self._tick]
        return self.dice.choice(makers)()

    def _tick(self) -> Event:
        return Tick()

    def _ticket(self) -> Event:
        if not self.streams:
            return self._open_or_close()
        stream = self.streams[self.dice.choice(sorted(self.streams))]
        ticket = Ticket(
            stream=stream,
            request_id=f"r{next(self._numbers)}",
            key=ModelKey(
                CHAT, self.dice.choice((*MODELS, "delta", "nonsense") if self.dice.random() < 0.1 else MODELS)
            ),
            priority=self.dice.choice(list(Priority)),
            slots=self.dice.choice((1, 1, 1, 2, 9)),
            wait_limit_s=self.dice.choice((0.0, 0.0, 0.5, 5.0)),
            session_id=self.dice.choice(("", "s1", "s2")),
            prefix_hashes=tuple(range(self.dice.randrange(4))),
            excluded=frozenset(self.dice.sample([f"chat-{n}" for n in range(6)], self.dice.choice((0, 0, 0, 1, 3)))),
        )
        self.open[stream, ticket.request_id] = ticket
        return TicketArrived(ticket)

    def _release(self) -> Event:
        if not self.leases:
            return self._ticket()
        lease = self.leases.pop(self.dice.choice(sorted(self.leases)))
        outcomes = [Outcome.COMPLETED] * 8 + [Outcome.REPLICA_BUSY, Outcome.REPLICA_FAILED, Outcome.CANCELLED]
        return LeaseReleased(lease.stream, lease.lease_id, self.dice.choice(outcomes))

    def _cancel(self) -> Event:
        if not self.open:
            return self._ticket()
        stream, request_id = self.dice.choice(sorted(self.open))
        del self.open[stream, request_id]
        return TicketCancelled(stream, request_id)

    def _beat(self) -> Event:
        replica_id = f"chat-{self.dice.randrange(6)}"
        before = self.reports.get(replica_id)
        stream = self.replica_streams.get(replica_id)
        generation = before.generation if before else 1
        if (
            stream is None or self.dice.random() < 0.05
        ):  # the first stream, a new one beside the old, or another process
            stream = f"{replica_id}#{next(self._numbers)}"
            generation += self.dice.random() < 0.5
        models = {name: self._model() for name in MODELS if self.dice.random() < 0.8}
        draining = self.dice.random() < 0.05
        queued = self.dice.randrange(4)
        return ReplicaBeat(
            stream, ReplicaReport(replica_id, generation, CHAT, f"{replica_id}:1", models, draining, queued, 8, 100)
        )

    def _model(self) -> ModelReport:
        load = self.dice.choice([Load.LOADED] * 6 + list(Load))
        used = self.dice.choice((0, 0, 0, 1, 2))
        return ModelReport(
            load, self.dice.choice((0, 1, 2, 4)), used, self.dice.choice((0, 10)), self.dice.random() < 0.2
        )

    def _lose(self) -> Event:
        if not self.replica_streams:
            return self._beat()
        replica_id = self.dice.choice(sorted(self.replica_streams))
        return ReplicaStreamLost(self.replica_streams.pop(replica_id), replica_id)

    def _leave(self) -> Event:
        if not self.replica_streams:
            return self._beat()
        replica_id = self.dice.choice(sorted(self.replica_streams))
        return ReplicaLeft(self.replica_streams.pop(replica_id), replica_id)

    def _open_or_close(self) -> Event:
        gateway_id = f"g{self.dice.randrange(3)}"
        if gateway_id in self.streams and self.dice.random() < 0.5:
            return self._close(gateway_id)
        old = self.streams.get(gateway_id, "")
        stream = self.streams[gateway_id] = f"{gateway_id}#{next(self._numbers)}"
        kept = [lease for lease in self.leases.values() if lease.stream == old and self.dice.random() < 0.5]
        self._forget_stream(old)
        for lease in kept:
            self.leases[lease.lease_id] = Lease(
                lease.lease_id, stream, lease.request_id, lease.replica_id, lease.key, lease.slots, self.now_s, None
            )
        held = (HeldLease(lease.lease_id, lease.request_id, lease.replica_id, lease.key, lease.slots) for lease in kept)
        return GatewayOpened(stream, gateway_id, tuple(held))

    def _close(self, gateway_id: str) -> Event:
        stream = self.streams.pop(gateway_id)
        self._forget_stream(stream)
        return GatewayClosed(stream)

    def _forget_stream(self, stream: str) -> None:
        self.open = {key: ticket for key, ticket in self.open.items() if key[0] != stream}
        self.leases = {name: lease for name, lease in self.leases.items() if lease.stream != stream}

    # What must hold

    def _apply(self, event: Event) -> None:
        actions = self.machine.apply(event, self.now_s, self.rng)
        if isinstance(event, ReplicaBeat):
            self._note_report(event, actions)
        for action in actions:
            self.trace.append((self.now_s, action))
            self._check(action)
        assert len(self.machine.queue) <= LIMITS.queue_tickets
        assert {(w.ticket.stream, w.ticket.request_id) for w in self.machine.queue.all()} == set(self.open)
        assert sorted(lease.lease_id for lease in self.machine.leases.all()) == sorted(self.leases)
        self._the_figures_add_up()
        assert self.machine.wake_s > self.now_s or not isinstance(event, Tick), "ticks without end"
        if self.machine.wake_s > self.now_s:  # else the tick that is due will see to it
            self._nobody_waits_in_vain()

    def _note_report(self, event: ReplicaBeat, actions: list[Action]) -> None:
        if any(isinstance(action, CutReplica) and action.stream == event.stream for action in actions):
            return
        replica_id, generation = event.report.replica_id, event.report.generation
        self.replica_streams[replica_id] = event.stream
        self.reports[replica_id] = event.report
        for lease in [lease for lease in self.leases.values() if lease.replica_id == replica_id]:
            if lease.generation is not None and lease.generation != generation:
                del self.leases[lease.lease_id]
        self._adopt()

    def _adopt(self) -> None:
        """Held leases belong to the generation that the replica is known to be of when the machine first knows both."""
        for lease in self.machine.leases.all():
            if lease.lease_id in self.leases:
                self.leases[lease.lease_id] = lease

    def _check(self, action: Action) -> None:
        match action:
            case Grant(lease=lease):
                ticket = self.open.pop((lease.stream, lease.request_id))
                report = self.reports[lease.replica_id]
                self.leases[lease.lease_id] = lease
                assert report.modality == ticket.key.modality
                model = report.models[ticket.key.name]
                taken = Counter({(item.replica_id, item.key): 0 for item in self.leases.values()})
                for item in self.leases.values():
                    taken[item.replica_id, item.key] += item.slots
                assert taken[lease.replica_id, lease.key] <= capacity(model), "more is granted than there is"
                member = self.machine.membership.get(lease.replica_id)
                assert member is not None
                assert member.health is Health.LIVE
            case Refuse():
                ticket = self.open.pop((action.stream, action.request_id))
                assert action.message
                hopeless = action.reason in (Reason.NO_CAPACITY, Reason.MODEL_NOT_FOUND)
                assert not (hopeless and ticket.key.name in EXPECTED), "an expected model is worth waiting for"
            case QueueUpdate():
                assert (action.stream, action.request_id) in self.open
            case CutGateway():
                assert action.stream not in self.streams.values()
            case _:
                pass

    def _the_figures_add_up(self) -> None:
        """Every ticket and every lease is counted once; expected models are always there; nobody's nonsense is a name."""
        figures = self.machine.figures(self.now_s)
        assert {key.name for key in figures.models} <= {*MODELS, *EXPECTED}
        assert {ModelKey(CHAT, name) for name in EXPECTED} <= figures.models.keys()
        tickets = sum(sum(figure.tickets.values()) for figure in figures.models.values())
        assert tickets + figures.unknown_tickets == len(self.machine.queue)
        for key, figure in figures.models.items():
            assert figure.leases == sum(lease.key == key for lease in self.machine.leases.all())
            assert bool(figure.tickets.total()) == bool(figure.waiting_slots) == bool(self.machine.queue.line(key))

    def _nobody_waits_in_vain(self) -> None:
        """The first in a line has no place to go: not on a live replica with the model loaded and slots free."""
        self._adopt()
        for key in self.machine.queue.models():
            first = self.machine.queue.line(key)[0]
            for replica_id, member in self.machine.membership.serving(key).items():
                model = member.report.models[key.name]
                pause = member.pauses.get(key.name)
                paused = pause is not None and self.now_s < pause.until_s
                if member.health is not Health.LIVE or model.load is not Load.LOADED or paused or not model.slots:
                    continue
                free = model.slots - self.machine.leases.slots(replica_id, key) - member.foreign.get(key.name, 0)
                wants = min(first.ticket.slots, model.slots)
                assert free < wants or replica_id in first.ticket.excluded, f"{first} could go to {replica_id}"


def digest(seed: int, steps: int) -> str:
    """Runs a storm and returns what stands for all that was done."""
    storm = Storm(seed)
    storm.run(steps)
    return storm.digest()


if __name__ == "__main__":
    sys.stdout.write(digest(int(sys.argv[1]), int(sys.argv[2])))
