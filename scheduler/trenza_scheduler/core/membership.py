"""Which replicas there are, and how far each is to be trusted.

Beats keep a replica live. One that is overdue, or whose stream broke, is suspect: nothing new is sent there, what runs there goes
on. After a longer silence it is dead, which means forgotten. The first suspicion is healed by one beat; each further one within
a minute asks for one more heartbeat interval without a break, so that a flapping replica does not drag requests along.

A name belongs to the process that beats under it. Another process (another generation) gets it when the first is suspect or has
left; until then it is turned away, or two replicas that were given one name would end each other's leases for ever.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from trenza_scheduler.core.domain import Health, Load, ModelKey, ReplicaReport
from trenza_scheduler.core.limits import Limits


@dataclass(slots=True)
class Pause:
    """A model that is left alone on a replica after a failure, and how often that happened in a row."""

    until_s: float
    strikes: int


@dataclass(slots=True)
class Member:
    """One replica: its last report, when that came, on which stream (None once that broke), and the judgement."""

    report: ReplicaReport
    stream: str | None
    heard_s: float
    health: Health
    trusted_from_s: float = 0.0
    """While suspect: when a beat heals it. Infinite until the first beat after the suspicion."""
    suspicions_s: deque[float] = field(default_factory=deque)
    foreign: dict[str, int] = field(default_factory=dict)
    """Slots by model that are taken by others than our gateways."""
    pauses: dict[str, Pause] = field(default_factory=dict)


class Hearing(Enum):
    """What a beat turned out to be."""

    JOINED = "joined"
    RESTARTED = "restarted"
    KNOWN = "known"
    TURNED_AWAY = "turned away"


@dataclass(frozen=True, slots=True)
class Heard:
    """What followed from a beat: the stream that it replaced, models whose routing it changed, and news for people."""

    hearing: Hearing
    replaced_stream: str | None = None
    touched: tuple[ModelKey, ...] = ()
    news: str = ""


class Membership:
    """The replicas by id, and by the models that they know."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._members: dict[str, Member] = {}
        self._serving: dict[ModelKey, dict[str, Member]] = {}
        self._unserved_since_s: OrderedDict[ModelKey, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._members)

    def get(self, replica_id: str) -> Member | None:
        """A replica; None where it is not known (any more)."""
        return self._members.get(replica_id)

    def all(self) -> Iterable[Member]:
        """Every replica that is not dead."""
        return self._members.values()

    def models(self) -> Iterable[ModelKey]:
        """Every model that a replica knows."""
        return self._serving.keys()

    def serving(self, key: ModelKey) -> Mapping[str, Member]:
        """The replicas that know a model, however they are."""
        return self._serving.get(key, {})

    def unserved_since_s(self, key: ModelKey) -> float | None:
        """Since when no replica is left that serves a model or may do so again; None where one is, or never was."""
        return self._unserved_since_s.get(key)

    @property
    def remembers_any(self) -> bool:
        """Whether any model is or was there."""
        return bool(self._serving or self._unserved_since_s)

    def beat(self, stream: str, report: ReplicaReport, now_s: float) -> Heard:
        """Takes in a report."""
        member = self._members.get(report.replica_id)
        if member is None:
            health = Health.DRAINING if report.draining else Health.LIVE
            self._members[report.replica_id] = member = Member(report, stream, now_s, health)
            self._index(report.model_keys(), member, now_s)
            return Heard(Hearing.JOINED, None, tuple(report.model_keys()), "joined")
        restarted = report.generation != member.report.generation
        if restarted and stream != member.stream and self._is_beating(member, now_s):
            return Heard(Hearing.TURNED_AWAY)
        replaced = member.stream if member.stream != stream else None
        hearing = Hearing.RESTARTED if restarted else Hearing.KNOWN
        before, was = member.report, member.health
        member.report, member.stream, member.heard_s = report, stream, now_s
        if restarted:
            member.foreign, member.pauses = {}, {}
        member.health = self._health_after_beat(member, now_s)
        touched = self._reindex(member, before, now_s)
        if restarted or member.health is not was:
            touched = tuple(report.model_keys())
        news = "restarted" if restarted else member.health.value if member.health is not was else ""
        return Heard(hearing, replaced, touched, news)

    def lose(self, stream: str, replica_id: str, now_s: float) -> Member | None:
        """Its stream broke; returns the replica where that made it suspect."""
        member = self._members.get(replica_id)
        if member is None or member.stream != stream:
            return None
        member.stream = None
        return member if self._suspect(member, now_s) else None

    def leave(self, stream: str, replica_id: str, now_s: float) -> Member | None:
        """It goes for good; returns it where it was there and the word came from itself."""
        member = self._members.get(replica_id)
        return self._remove(member, now_s) if member is not None and member.stream == stream else None

    def tick(self, now_s: float) -> tuple[list[Member], list[Member]]:
        """Lets time pass; returns those that have become suspect, and those that have died."""
        dead = [m for m in self._members.values() if now_s >= m.heard_s + self._limits.dead_after_s]
        for member in dead:
            self._remove(member, now_s)
        overdue = [m for m in self._members.values() if now_s >= m.heard_s + self._limits.suspect_after_s]
        while self._unserved_since_s:
            key, since_s = next(iter(self._unserved_since_s.items()))
            if now_s - since_s < self._limits.absence_memory_s or self._serving.get(key):
                break
            del self._unserved_since_s[key]
        return [member for member in overdue if self._suspect(member, now_s)], dead

    def forgive(self, late_s: float, now_s: float) -> None:
        """The scheduler itself was held up for so long. Beats that were sent meanwhile get an interval to be read."""
        for member in self._members.values():
            member.heard_s = min(now_s, member.heard_s + late_s + self._limits.heartbeat_interval_s)

    def wake_s(self) -> float:
        """When the next replica becomes suspect or dead, should it stay silent."""
        limits = self._limits
        return min(
            (
                m.heard_s + (limits.dead_after_s if m.health is Health.SUSPECT else limits.suspect_after_s)
                for m in self._members.values()
            ),
            default=float("inf"),
        )

    def pause(self, member: Member, model: str, now_s: float, first_s: float) -> None:
        """Leaves a model on a replica alone for a while, twice as long as the last time."""
        before = member.pauses.get(model)
        strikes = before.strikes + 1 if before else 1
        length_s = min(self._limits.longest_pause_s, first_s * 2.0 ** min(strikes - 1, 30))
        until_s = max(now_s + length_s, before.until_s) if before else now_s + length_s
        member.pauses[model] = Pause(until_s, strikes)

    def _is_beating(self, member: Member, now_s: float) -> bool:
        return member.stream is not None and now_s < member.heard_s + self._limits.suspect_after_s

    def _health_after_beat(self, member: Member, now_s: float) -> Health:
        if member.health is Health.SUSPECT:
            if member.trusted_from_s == float("inf"):
                extra = min(len(member.suspicions_s), self._limits.longest_probation_intervals) - 1
                member.trusted_from_s = now_s + extra * self._limits.heartbeat_interval_s
            if now_s < member.trusted_from_s:
                return Health.SUSPECT
        return Health.DRAINING if member.report.draining else Health.LIVE

    def _suspect(self, member: Member, now_s: float) -> bool:
        """Returns whether it was not suspect before. One on probation that fails again starts anew."""
        if member.trusted_from_s != float("inf") or member.health is not Health.SUSPECT:
            while member.suspicions_s and now_s - member.suspicions_s[0] > self._limits.flap_window_s:
                member.suspicions_s.popleft()
            if len(member.suspicions_s) < self._limits.longest_probation_intervals:
                member.suspicions_s.append(now_s)
            member.trusted_from_s = float("inf")
        changed = member.health is not Health.SUSPECT
        member.health = Health.SUSPECT
        return changed

    def _remove(self, member: Member, now_s: float) -> Member:
        del self._members[member.report.replica_id]
        for key in member.report.model_keys():
            del self._serving[key][member.report.replica_id]
            self._note_service(key, now_s)
        return member

    def _reindex(self, member: Member, before: ReplicaReport, now_s: float) -> tuple[ModelKey, ...]:
        """Follows a changed report; returns the models that it says something new about, as far as routing goes."""
        report = member.report
        gone = [key for key in before.model_keys() if key.modality != report.modality or key.name not in report.models]
        for key in gone:
            del self._serving[key][report.replica_id]
            self._note_service(key, now_s)
        new = [key for key in report.model_keys() if report.replica_id not in self._serving.get(key, ())]
        self._index(new, member, now_s)
        if report.draining != before.draining:
            for key in report.model_keys():
                self._note_service(key, now_s)
        self._note_loads(member, before, now_s)
        return tuple(k for k in report.model_keys() if report.models[k.name] != before.models.get(k.name))

    def _index(self, keys: Iterable[ModelKey], member: Member, now_s: float) -> None:
        for key in keys:
            self._serving.setdefault(key, {})[member.report.replica_id] = member
            self._note_service(key, now_s)

    def _note_service(self, key: ModelKey, now_s: float) -> None:
        """Keeps account of models that nobody serves any more, so that they are not taken for ones that never were."""
        members = self._serving.get(key)
        if members is not None and not members:
            del self._serving[key]
        if members and any(not member.report.draining for member in members.values()):
            self._unserved_since_s.pop(key, None)
        elif key not in self._unserved_since_s:
            self._unserved_since_s[key] = now_s
            if len(self._unserved_since_s) > self._limits.absent_models:
                self._unserved_since_s.popitem(last=False)

    def _note_loads(self, member: Member, before: ReplicaReport, now_s: float) -> None:
        """A load that failed makes a pause, one that succeeded ends it."""
        for name, model in member.report.models.items():
            was = before.models[name].load if name in before.models else Load.UNKNOWN
            if model.load is Load.LOADED and was is not Load.LOADED:
                member.pauses.pop(name, None)
            elif model.load is Load.FAILED and was is not Load.FAILED:
                self.pause(member, name, now_s, self._limits.failed_load_pause_s)
