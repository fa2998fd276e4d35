"""Runs scenarios: text files that tell what happens to a scheduler, when, and what it is expected to do about it.

    limits queue_tickets=2                                    before anything else, where a scenario needs its own
    expected alpha:4,beta:0                                   models to be expected, with the slots of one replica
    at 0.0 beat chat-0 models=alpha:loaded:4,beta:loadable:2  a replica beats; used=alpha:2, gen=, stream=, draining, queued=
    at 0.0 steady chat-0 models=alpha:loaded:4                the same, and from now on once per heartbeat interval
    at 0.0 silence chat-0                                     it beats no more, though its stream stands
    at 0.0 lost chat-0 | leave chat-0                         its stream breaks; it goes for good
    at 0.0 gateway g1 held=L1:r1:chat-0:alpha:1,…             a gateway connects, with the leases it holds
    at 0.1 ticket r1 model=alpha priority=1 gateway=g1        slots=, wait=, session=, prefixes=1,2, exclude=chat-0, tenant=
    at 0.2 cancel r1 | release r1 outcome=replica_busy        by the gateway that sent the ticket
    at 0.3 close g1 | shutdown | wait                         wait: time passes
    at 60 stall                                               time passes, and the scheduler does not notice until now
    expect grant r1 chat-0 | grant r1 chat-0 cold | grant r1 any
    expect refusal r2 QUEUE_FULL | waiting r3 position=2 | silent r3 | health chat-0 suspect | leased chat-0 2 | cut g1
    expect explained r3 a free slot                           the words in what it waits for
    expect figures alpha demand=3 capacity=4 oldest=1.5       also failed=, served=
    expect said r1 words                                      the words in the last refusal of a request

Expectations concern what happened since the last `at`. Every grant and refusal has to be expected, so that none can slip in.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from random import Random

from trenza_scheduler.core.actions import Action, CutGateway, CutReplica, Grant, QueueUpdate, Refuse
from trenza_scheduler.core.domain import (
    HeldLease,
    Load,
    ModelKey,
    ModelReport,
    Outcome,
    Priority,
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
    ShutDown,
    Tick,
    TicketArrived,
    TicketCancelled,
)
from trenza_scheduler.core.limits import Limits
from trenza_scheduler.core.machine import Machine

CHAT = 1
PRIORITIES = {"0": Priority.URGENT, "1": Priority.NORMAL, "2": Priority.BACKGROUND}


class Failed(AssertionError):
    """An expectation that was not met, with the line that it stands in."""


class Scenario:
    """One run. Ticks come when the machine asks for them, as they do in the process."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.limits = Limits()
        self.now_s = 0.0
        self.actions: list[Action] = []
        self.trace: list[tuple[float, Action]] = []
        self._machine: Machine | None = None
        self._expected: dict[ModelKey, int] = {}
        self._steady: dict[str, tuple[float, ReplicaBeat]] = {}
        self._replica_streams: dict[str, str] = {}
        self._gateway_streams: dict[str, str] = {}
        self._gateway_of: dict[str, str] = {}
        self._leases: dict[str, str] = {}
        self._numbers = itertools.count(1)

    @property
    def machine(self) -> Machine:
        if self._machine is None:
            self._machine = Machine(self.limits, "e", 0.0, self._expected)
        return self._machine

    def run(self, text: str) -> None:
        """Raises Failed."""
        for number, line in enumerate(text.splitlines(), start=1):
            words = [] if line.startswith("#") else line.split()
            if not words:
                continue
            try:
                self._obey(words)
            except (AssertionError, KeyError, ValueError, AttributeError, TypeError) as error:
                recent = "\n".join(f"  {time_s:g} {action}" for time_s, action in self.trace[-12:])
                raise Failed(f"line {number}: {line.strip()}\n  {error!r}\nlately:\n{recent}") from error
        self._nothing_unexpected()

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["limits", *settings]:
                changes = {name: float(value) for name, _, value in (setting.partition("=") for setting in settings)}
                whole = {f.name for f in dataclasses.fields(Limits) if f.type == "int"}
                typed = {name: int(value) if name in whole else value for name, value in changes.items()}
                self.limits = dataclasses.replace(self.limits, **typed)  # type: ignore[arg-type]  # checked by the names
            case ["expected", models]:
                pairs = (item.split(":") for item in models.split(","))
                self._expected = {ModelKey(CHAT, name): int(slots) for name, slots in pairs}
            case ["at", time_s, verb, *rest]:
                self._nothing_unexpected()
                self.actions.clear()
                if verb == "stall":
                    self.now_s = float(time_s)
                else:
                    self._advance(float(time_s))
                if verb != "wait":  # whatever was due meanwhile has been done on the way here
                    self._act(verb, [word for word in rest if "=" not in word], _options(rest))
            case ["expect", what, *rest]:
                getattr(self, f"_expect_{what}")(*[w for w in rest if "=" not in w], **_options(rest))
            case _:
                raise ValueError("neither limits, expected, at nor expect")

    def _advance(self, until_s: float) -> None:
        """Lets time pass: ticks where the machine wants them, beats of those who beat steadily."""
        assert until_s >= self.now_s, "time does not run backwards"
        while True:
            beat_s, beat = min(self._steady.values(), key=lambda pair: pair[0], default=(float("inf"), None))
            due_s = min(beat_s, self.machine.wake_s)
            if due_s > until_s:
                break
            self.now_s = max(self.now_s, due_s)
            if beat is not None and beat_s <= self.machine.wake_s:
                self._steady[beat.report.replica_id] = (beat_s + self.limits.heartbeat_interval_s, beat)
                self._apply(beat)
            else:
                self._apply(Tick())
        self.now_s = until_s

    def _apply(self, event: Event) -> None:
        for action in self.machine.apply(event, self.now_s, self.rng):
            self.actions.append(action)
            self.trace.append((self.now_s, action))
            if isinstance(action, Grant):
                self._leases[action.lease.request_id] = action.lease.lease_id

    def _act(self, verb: str, names: list[str], options: dict[str, str]) -> None:
        match verb, names:
            case (("beat" | "steady"), [replica_id, *flags]):
                self._beat(replica_id, "draining" in flags, options, steady=verb == "steady")
            case "silence", [replica_id]:
                del self._steady[replica_id]
            case "lost", [replica_id]:
                self._steady.pop(replica_id, None)
                self._apply(ReplicaStreamLost(self._replica_streams.pop(replica_id), replica_id))
            case "leave", [replica_id]:
                self._steady.pop(replica_id, None)
                self._apply(ReplicaLeft(self._replica_streams.pop(replica_id), replica_id))
            case "gateway", [gateway_id]:
                self._open(gateway_id, options)
            case "close", [gateway_id]:
                self._apply(GatewayClosed(self._gateway_streams.pop(gateway_id)))
            case "ticket", [request_id]:
                self._ticket(request_id, options)
            case "cancel", [request_id]:
                self._apply(TicketCancelled(self._stream_of(request_id), request_id))
            case "release", [request_id]:
                outcome = Outcome(options.get("outcome", "completed"))
                self._apply(LeaseReleased(self._stream_of(request_id), self._leases[request_id], outcome))
            case "shutdown", []:
                self._apply(ShutDown())
            case "stall", []:
                self._apply(Tick())
            case _:
                raise ValueError(f"what is {verb} {names}?")

    def _beat(self, replica_id: str, draining: bool, options: dict[str, str], steady: bool) -> None:
        used = dict(item.split(":") for item in options.get("used", "").split(",") if item)
        models = {}
        for item in options["models"].split(","):
            name, load, slots = item.split(":")
            models[name] = ModelReport(Load(load), int(slots), int(used.get(name, 0)))
        report = ReplicaReport(
            replica_id=replica_id,
            generation=int(options.get("gen", 1)),
            modality=CHAT,
            address=f"{replica_id}:1",
            models=models,
            draining=draining,
            queued=int(options.get("queued", 0)),
            queue_limit=8,
        )
        if "stream" in options:
            stream = options["stream"]
        else:
            stream = self._replica_streams.get(replica_id) or f"{replica_id}#{next(self._numbers)}"
        self._replica_streams.setdefault(replica_id, stream)
        beat = ReplicaBeat(stream, report)
        if steady:
            self._steady[replica_id] = (self.now_s + self.limits.heartbeat_interval_s, beat)
        self._apply(beat)

    def _open(self, gateway_id: str, options: dict[str, str]) -> None:
        held = []
        for item in options.get("held", "").split(","):
            if item:
                lease_id, request_id, replica_id, model, slots = item.split(":")
                held.append(HeldLease(lease_id, request_id, replica_id, ModelKey(CHAT, model), int(slots)))
                self._leases[request_id] = lease_id
                self._gateway_of[request_id] = gateway_id
        self._gateway_streams[gateway_id] = f"{gateway_id}#{next(self._numbers)}"
        self._apply(GatewayOpened(self._gateway_streams[gateway_id], gateway_id, tuple(held)))

    def _ticket(self, request_id: str, options: dict[str, str]) -> None:
        gateway_id = options.get("gateway", "g1")
        self._gateway_of[request_id] = gateway_id
        ticket = Ticket(
            stream=self._gateway_streams[gateway_id],
            request_id=request_id,
            key=ModelKey(int(options.get("modality", CHAT)), options["model"]),
            priority=PRIORITIES[options.get("priority", "1")],
            slots=int(options.get("slots", 1)),
            wait_limit_s=float(options.get("wait", 0)),
            tenant=options.get("tenant", ""),
            session_id=options.get("session", ""),
            prefix_hashes=tuple(int(word) for word in options.get("prefixes", "").split(",") if word),
            excluded=frozenset(word for word in options.get("exclude", "").split(",") if word),
        )
        self._apply(TicketArrived(ticket))

    def _stream_of(self, request_id: str) -> str:
        return self._gateway_streams[self._gateway_of[request_id]]

    # What is expected

    def _take(self, found: Action | None, what: str) -> None:
        assert found is not None, f"no {what}"
        self.actions.remove(found)

    def _expect_grant(self, request_id: str, replica_id: str, load: str = "") -> None:
        grants = [a for a in self.actions if isinstance(a, Grant) and a.lease.request_id == request_id]
        self._take(grants[0] if grants else None, "grant")
        assert replica_id in ("any", grants[0].lease.replica_id), f"granted on {grants[0].lease.replica_id}"
        assert grants[0].model_loaded == (load != "cold"), f"loaded: {grants[0].model_loaded}"

    def _expect_refusal(self, request_id: str, reason: str, retry: str = "") -> None:
        refusals = [a for a in self.actions if isinstance(a, Refuse) and a.request_id == request_id]
        self._take(refusals[0] if refusals else None, "refusal")
        assert refusals[0].reason.value == reason, f"refused for {refusals[0].reason.value}"
        assert refusals[0].message.endswith(".")
        if retry:
            assert refusals[0].retry_after_s == float(retry), f"retry after {refusals[0].retry_after_s}"

    def _expect_waiting(self, request_id: str, position: str) -> None:
        told = [a for a in self.actions if isinstance(a, QueueUpdate) and a.request_id == request_id]
        waiting = self.machine.queue.find(self._stream_of(request_id), request_id)
        assert waiting is not None, "it does not wait"
        assert self.machine.queue.position(waiting) == int(position), f"position {self.machine.queue.position(waiting)}"
        assert waiting.told_position == int(position), f"told {waiting.told_position}, {told}"

    def _expect_silent(self, request_id: str) -> None:
        heard = [a for a in self.actions if isinstance(a, QueueUpdate) and a.request_id == request_id]
        assert not heard, heard

    def _expect_health(self, replica_id: str, health: str) -> None:
        member = self.machine.membership.get(replica_id)
        assert (member.health.value if member else "gone") == health, member and member.health

    def _expect_leased(self, replica_id: str, slots: str) -> None:
        assert self.machine.leases.slots_of_replica(replica_id) == int(slots), self.machine.leases.slots_of_replica(
            replica_id
        )

    def _expect_cut(self, name: str) -> None:
        cuts = [
            a for a in self.actions if isinstance(a, CutGateway | CutReplica) and a.stream.partition("#")[0] == name
        ]
        self._take(cuts[0] if cuts else None, "stream that was cut")

    def _expect_explained(self, request_id: str, *words: str) -> None:
        story = self.machine.story(request_id, self.now_s)
        assert story is not None, "it is not remembered"
        assert " ".join(words) in f"{story.state.value} {story.waiting_for}", story

    def _expect_figures(self, model: str, **wanted: str) -> None:
        figure = self.machine.figures(self.now_s).models[ModelKey(CHAT, model)]
        found = {
            "demand": figure.demand_slots,
            "capacity": figure.capacity_slots,
            "oldest": figure.oldest_wait_s,
            "failed": figure.failed_replicas,
            "served": figure.served,
        }
        off = {name: found[name] for name, value in wanted.items() if abs(found[name] - float(value)) > 1e-6}
        assert not off, f"it is {off}"

    def _expect_said(self, request_id: str, *words: str) -> None:
        said = [
            action.message for _, action in self.trace if isinstance(action, Refuse) and action.request_id == request_id
        ]
        assert said, "nothing was said"
        assert " ".join(words) in said[-1], said[-1]

    def _nothing_unexpected(self) -> None:
        unexpected = [action for action in self.actions if isinstance(action, Grant | Refuse | CutGateway | CutReplica)]
        if unexpected:
            raise Failed(f"not expected at {self.now_s:g}: {unexpected}")


def _options(words: list[str]) -> dict[str, str]:
    return {name: value for name, found, value in (word.partition("=") for word in words) if found}


def run_file(path: Path, seed: int = 1) -> Scenario:
    """Runs a scenario from a file. Raises Failed."""
    scenario = Scenario(seed)
    scenario.run(path.read_text())
    return scenario
