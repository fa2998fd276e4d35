"""Walks down the lines that something has happened to, and grants what can be granted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from trenza_scheduler.core.actions import Grant
from trenza_scheduler.core.affinity import Affinity
from trenza_scheduler.core.domain import Candidate as Explained
from trenza_scheduler.core.domain import Health, Lease, Load, ModelKey
from trenza_scheduler.core.leases import LeaseBook
from trenza_scheduler.core.limits import Limits
from trenza_scheduler.core.membership import Member, Membership
from trenza_scheduler.core.queue import Queue, Waiting
from trenza_scheduler.core.rooms import can_load, capacity, free_slots
from trenza_scheduler.core.routing.candidate import NOBODY, Candidate, Need
from trenza_scheduler.core.routing.route import Choice, explain, route
from trenza_scheduler.core.stories import State, Stories, Story


class Placer:
    """Gives places. Only lines that were touched are looked at, so that an event costs what it concerns, not what waits."""

    def __init__(self, limits: Limits, epoch: str, membership: Membership, leases: LeaseBook, queue: Queue) -> None:
        self.affinity = Affinity(limits.remembered_sessions, limits.remembered_prefixes)
        self.stories = Stories(limits.remembered_stories)
        self._limits = limits
        self._epoch = epoch
        self._membership = membership
        self._leases = leases
        self._queue = queue
        self._granted = 0
        self._touched: dict[ModelKey, None] = {}
        self._stuck: dict[ModelKey, None] = {}
        self._look_again_s: dict[ModelKey, float] = {}

    def touch(self, key: ModelKey) -> None:
        """Something has changed for those who wait for a model."""
        self._touched[key] = None

    def arrived(self, waiting: Waiting) -> None:
        """A ticket has joined its line; behind one that finds no place it need not be looked at."""
        key = waiting.ticket.key
        if key not in self._stuck or self._queue.first(key) is waiting:
            self.touch(key)

    def tick(self, now_s: float) -> None:
        """Touches the lines that are to be looked at again by now."""
        for key in [key for key, due_s in self._look_again_s.items() if now_s >= due_s]:
            self.touch(key)

    def wake_s(self) -> float:
        """When a line is to be looked at again though nothing happens."""
        return min(self._look_again_s.values(), default=float("inf"))

    def run(self, now_s: float, rng: Random) -> Iterator[Grant]:
        """Grants what can be granted, the most urgent and oldest line first."""
        firsts = [(first, key) for key in self._touched if (first := self._queue.first(key)) is not None]
        for key in self._touched:
            self._stuck.pop(key, None)
            self._look_again_s.pop(key, None)
        self._touched.clear()
        for _, key in sorted(firsts, key=lambda pair: pair[0]):
            yield from self._walk(key, now_s, rng)

    def explain(self, waiting: Waiting, now_s: float) -> tuple[str, tuple[Explained, ...]]:
        """What a waiting ticket waits for, and how each replica looks to it now."""
        candidates = self._candidates(waiting.ticket.key, now_s)
        # A question must not use up the random numbers of decisions; nothing is chosen here anyway.
        choice = route(self._need(waiting, candidates, now_s), candidates, Random(0))
        ahead = self._queue.position(waiting)
        return _waiting_for(choice, ahead), explain(choice, candidates, self._limits.explained_candidates)

    def _walk(self, key: ModelKey, now_s: float, rng: Random) -> Iterator[Grant]:
        """Places tickets in their order. The first that finds no room keeps those behind it waiting, or one for many slots would
        wait for ever; one that is only kept from replicas which failed it does not."""
        candidates = self._candidates(key, now_s)
        line, index = self._queue.line(key), 0
        while index < len(line) and index <= self._limits.lookahead_tickets:
            if not any(_is_open(candidate) for candidate in candidates):
                break
            choice = route(self._need(line[index], candidates, now_s), candidates, rng)
            if choice.chosen is not None:
                yield self._grant(line[index], choice, candidates, now_s)
                place = candidates.index(choice.chosen)
                taken = min(choice.need.slots, choice.chosen.slots)
                candidates[place] = choice.chosen._replace(free_slots=choice.chosen.free_slots - taken)
                continue
            if "load" in choice.verdicts:
                self._look_again(key, now_s + self._limits.load_poll_s)
            if "excluded" not in choice.verdicts:
                break
            index += 1
        if index < len(line):
            self._stuck[key] = None
        if line:
            self._look_again_after_pauses(key, now_s)

    def _candidates(self, key: ModelKey, now_s: float) -> list[Candidate]:
        return [self._candidate(member, key, now_s) for member in self._membership.serving(key).values()]

    def _candidate(self, member: Member, key: ModelKey, now_s: float) -> Candidate:
        report = member.report
        model = report.models[key.name]
        pause = member.pauses.get(key.name)
        asked_to_load = model.load in (Load.LOADABLE, Load.UNLOADING) and self._leases.slots(report.replica_id, key) > 0
        candidate = Candidate(
            report.replica_id,
            report.generation,
            member.health,
            Load.LOADING if asked_to_load else model.load,
            capacity(model),
            free_slots(member, key, self._leases),
            report.queued / report.queue_limit if report.queue_limit else 0.0,
            pause is not None and now_s < pause.until_s,
        )
        if not candidate.needs_load:
            return candidate
        return candidate._replace(can_load=can_load(member, key, self._leases), rivals=self._rivals(member, key))

    def _rivals(self, member: Member, key: ModelKey) -> int:
        rivals = NOBODY
        for name, model in member.report.models.items():
            first = self._queue.first(ModelKey(key.modality, name)) if name != key.name else None
            if first is not None and model.load is Load.LOADED:
                rivals = min(rivals, first.priority)
        return rivals

    def _need(self, waiting: Waiting, candidates: Sequence[Candidate], now_s: float) -> Need:
        ticket = waiting.ticket
        warm = (c for c in candidates if not c.needs_load and c.health is Health.LIVE and c.slots > 0)
        return Need(
            slots=ticket.slots,
            priority=ticket.priority,
            patient=now_s < waiting.arrived_s + self._limits.load_patience_s,
            excluded=ticket.excluded,
            loaded_elsewhere=any(candidate.replica_id not in ticket.excluded for candidate in warm),
            session=self.affinity.session_process(ticket),
            prefixes=self.affinity.prefix_shares(ticket),
        )

    def _grant(self, waiting: Waiting, choice: Choice, candidates: Sequence[Candidate], now_s: float) -> Grant:
        ticket, chosen = waiting.ticket, choice.chosen
        assert chosen is not None
        member = self._membership.get(chosen.replica_id)
        assert member is not None
        self._queue.leave(waiting)
        self._granted += 1
        lease = Lease(
            lease_id=f"{self._epoch}-{self._granted}",
            stream=ticket.stream,
            request_id=ticket.request_id,
            replica_id=chosen.replica_id,
            key=ticket.key,
            slots=min(ticket.slots, chosen.slots),
            since_s=now_s,
            generation=chosen.generation,
        )
        self._leases.add(lease, now_s)
        self.affinity.note(ticket, (chosen.replica_id, chosen.generation))
        waited_s = now_s - waiting.arrived_s
        explained = explain(choice, candidates, self._limits.explained_candidates)
        self.stories.put(Story(ticket.request_id, State.GRANTED, waited_s, chosen.replica_id, "", explained))
        return Grant(lease, member.report.address, chosen.load is Load.LOADED, waited_s, ticket.priority)

    def _look_again(self, key: ModelKey, due_s: float) -> None:
        self._look_again_s[key] = min(due_s, self._look_again_s.get(key, float("inf")))

    def _look_again_after_pauses(self, key: ModelKey, now_s: float) -> None:
        for member in self._membership.serving(key).values():
            pause = member.pauses.get(key.name)
            if pause is not None and now_s < pause.until_s:
                self._look_again(key, pause.until_s)


def _is_open(candidate: Candidate) -> bool:
    return candidate.free_slots > 0 and candidate.health is Health.LIVE and not candidate.paused


_WAITING_FOR = {
    "load": "a replica that can load the model without keeping others waiting",
    "room": "a free slot on a live replica",
    "pause": "a replica to recover that has just refused or failed a request",
    "excluded": "another replica than those that have just failed this request",
    "health": "a replica that is live: all are suspect or draining",
    "model": "a replica to say that it can serve the model",
}
"""By the filter that ruled out the replica which came furthest."""


def _waiting_for(choice: Choice, ahead: int) -> str:
    """A sentence."""
    if ahead:
        return f"{ahead} ticket{'s' if ahead > 1 else ''} for the same model to be served first."
    furthest = next((name for name in _WAITING_FOR if name in choice.verdicts), "")
    return f"Waits for {_WAITING_FOR[furthest] if furthest else 'a replica that has the model to come up'}."
