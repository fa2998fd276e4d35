"""The replicas that are known, how they are, and what runs on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from trenza_scheduler.core.domain import Health, Lease, Limits, ReplicaReport


@dataclass(slots=True)
class Replica:
    """One replica: its last report, when and on which stream that came, and whether the stream still stands."""

    report: ReplicaReport
    stream: str
    last_beat_s: float
    connected: bool = True
    foreign: dict[str, int] = field(default_factory=dict)
    """By model: slots that others than our gateways took, as far as the last two reports agree."""
    _foreign_before: dict[str, int] = field(default_factory=dict)

    def health(self, now_s: float, limits: Limits) -> Health:
        """The judgement over the replica: silence or a broken stream makes it suspect."""
        silence_s = now_s - self.last_beat_s
        if not self.connected or silence_s > limits.suspect_after_intervals * limits.heartbeat_interval_s:
            return Health.SUSPECT
        return Health.DRAINING if self.report.draining else Health.LIVE

    def is_dead(self, now_s: float, limits: Limits) -> bool:
        """Whether the silence has lasted so long that the replica is forgotten."""
        return now_s - self.last_beat_s > limits.dead_after_intervals * limits.heartbeat_interval_s

    def note_foreign_load(self, leased: dict[str, int]) -> None:
        """Compares the report with our own leases.

        A report and a lease may cross on the way, so that what one report alone has too much is no load yet.
        """
        extra = {name: max(0, model.slots_used - leased.get(name, 0)) for name, model in self.report.models.items()}
        self.foreign = {name: min(slots, self._foreign_before.get(name, 0)) for name, slots in extra.items()}
        self._foreign_before = extra


class Fleet:
    """Replicas by id, the leases on them, and the models that were there not long ago."""

    def __init__(self, limits: Limits) -> None:
        self.replicas: dict[str, Replica] = {}
        self.leases: dict[str, Lease] = {}
        self._limits = limits
        self._leased: dict[tuple[str, str], int] = {}
        self._of_replica: dict[str, set[str]] = {}
        self._remembered: OrderedDict[str, float] = OrderedDict()

    def beat(self, stream: str, report: ReplicaReport, now_s: float) -> bool:
        """Takes in a report; returns whether anything changed that routing or gateways care about.

        A report of an earlier generation is from a process that has been replaced, and is ignored.
        """
        known = self.replicas.get(report.replica_id)
        if known is not None and report.generation < known.report.generation:
            return False
        if known is not None and report.generation > known.report.generation:
            self._void(report.replica_id, known.report.generation)
        changed = known is None or known.health(now_s, self._limits) is not Health.LIVE or _differ(known.report, report)
        if known is None:
            self.replicas[report.replica_id] = known = Replica(report, stream, now_s)
        known.report, known.stream, known.last_beat_s, known.connected = report, stream, now_s, True
        known.note_foreign_load({name: self.leased_slots(report.replica_id, name) for name in report.models})
        return changed

    def remove(self, replica_id: str, now_s: float) -> Replica | None:
        """Forgets a replica and its leases; its models are remembered for a while."""
        replica = self.replicas.pop(replica_id, None)
        if replica is not None:
            for name in replica.report.models:
                self._remembered[name] = now_s
                self._remembered.move_to_end(name)
        self._void(replica_id, None)
        return replica

    def remove_dead(self, now_s: float) -> list[Replica]:
        """Forgets replicas that have been silent for too long, and models that were remembered for long enough."""
        dead = [name for name, replica in self.replicas.items() if replica.is_dead(now_s, self._limits)]
        while self._remembered:
            name, since_s = next(iter(self._remembered.items()))
            if now_s - since_s <= self._limits.remember_models_s:
                break
            del self._remembered[name]
        return [replica for name in dead if (replica := self.remove(name, now_s)) is not None]

    def serving(self, model: str, modality: int) -> Iterator[Replica]:
        """The replicas that know a model, however they are."""
        for replica in self.replicas.values():
            if replica.report.modality == modality and model in replica.report.models:
                yield replica

    def knows(self, model: str, modality: int) -> bool:
        """Whether the model is there, or was not long ago (its replicas may be restarting, or scaled to zero)."""
        return model in self._remembered or any(True for _ in self.serving(model, modality))

    def add_lease(self, lease: Lease) -> None:
        """Takes slots."""
        self.leases[lease.lease_id] = lease
        self._of_replica.setdefault(lease.replica_id, set()).add(lease.lease_id)
        key = (lease.replica_id, lease.model)
        self._leased[key] = self._leased.get(key, 0) + lease.slots

    def end_lease(self, lease_id: str) -> Lease | None:
        """Gives slots back; None where the lease is not known (any more)."""
        lease = self.leases.pop(lease_id, None)
        if lease is None:
            return None
        self._of_replica[lease.replica_id].discard(lease_id)
        if not self._of_replica[lease.replica_id]:
            del self._of_replica[lease.replica_id]
        key = (lease.replica_id, lease.model)
        self._leased[key] -= lease.slots
        if not self._leased[key]:
            del self._leased[key]
        return lease

    def leased_slots(self, replica_id: str, model: str) -> int:
        """Slots of a model on a replica that are under a lease."""
        return self._leased.get((replica_id, model), 0)

    def leased_slots_of(self, replica_id: str) -> int:
        """Slots of a replica that are under a lease, all models together."""
        return sum(self.leases[lease_id].slots for lease_id in self._of_replica.get(replica_id, ()))

    def free_slots(self, replica: Replica, model: str) -> int:
        """Slots of a model that a replica has left: what it says, less our leases and what others run there."""
        report = replica.report.models[model]
        taken = self.leased_slots(replica.report.replica_id, model) + replica.foreign.get(model, 0)
        return report.slots - taken

    def _void(self, replica_id: str, generation: int | None) -> None:
        """Ends the leases of a replica's earlier life, or all of them where `generation` is None."""
        for lease_id in list(self._of_replica.get(replica_id, ())):
            if generation is None or self.leases[lease_id].generation in (None, generation):
                self.end_lease(lease_id)


def _differ(old: ReplicaReport, new: ReplicaReport) -> bool:
    """Whether a report says something new about where requests can go. Slots in use are followed through leases instead."""

    def gist(report: ReplicaReport) -> object:
        models = {name: (model.load, model.slots) for name, model in report.models.items()}
        return report.generation, report.address, report.draining, models

    return gist(old) != gist(new)
