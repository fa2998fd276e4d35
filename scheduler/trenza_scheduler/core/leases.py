"""What runs under a lease: exact counts by replica and model, and by gateway stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from trenza_scheduler.core.domain import Lease, ModelKey


@dataclass(slots=True)
class _Tally:
    """Slots in use, and what they were before each change of the last moment."""

    slots: int = 0
    past: deque[tuple[float, int]] = field(default_factory=deque)


class LeaseBook:
    """Every lease ends once: by its release, with its gateway's stream, or with its replica's generation.

    A replica's death does not end leases: what runs there may go on though the scheduler does not hear of it. `echo_s` is
    how long an ended lease may still show in a replica's reports.
    """

    def __init__(self, echo_s: float) -> None:
        self._echo_s = echo_s
        self._leases: dict[str, Lease] = {}
        self._tallies: dict[str, dict[ModelKey, _Tally]] = {}
        self._of_stream: dict[str, dict[str, None]] = {}
        self._of_replica: dict[str, dict[str, None]] = {}
        self._of_request: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, lease_id: str) -> Lease | None:
        """A lease, None where it is not known (any more)."""
        return self._leases.get(lease_id)

    def all(self) -> Iterable[Lease]:
        """Every lease."""
        return self._leases.values()

    def has_request(self, stream: str, request_id: str) -> bool:
        """Whether a gateway's request runs under a lease."""
        return (stream, request_id) in self._of_request

    def of_stream(self, stream: str) -> list[Lease]:
        """The leases of a gateway."""
        return [self._leases[lease_id] for lease_id in self._of_stream.get(stream, ())]

    def add(self, lease: Lease, now_s: float) -> bool:
        """Takes slots; returns False, and does nothing, where a lease of that id is there already."""
        if lease.lease_id in self._leases:
            return False
        self._leases[lease.lease_id] = lease
        self._of_stream.setdefault(lease.stream, {})[lease.lease_id] = None
        self._of_replica.setdefault(lease.replica_id, {})[lease.lease_id] = None
        self._of_request[lease.stream, lease.request_id] = lease.lease_id
        self._count(lease, lease.slots, now_s)
        return True

    def end(self, lease_id: str, now_s: float) -> Lease | None:
        """Gives slots back; None where the lease is not known (any more)."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return None
        _strike(self._of_stream, lease.stream, lease_id)
        _strike(self._of_replica, lease.replica_id, lease_id)
        if self._of_request.get((lease.stream, lease.request_id)) == lease_id:
            del self._of_request[lease.stream, lease.request_id]
        self._count(lease, -lease.slots, now_s)
        return lease

    def settle_generation(self, replica_id: str, generation: int, now_s: float) -> list[Lease]:
        """The replica is now known to be of this generation: leases of another are void and returned, those of none become its."""
        void = []
        for lease_id in list(self._of_replica.get(replica_id, ())):
            lease = self._leases[lease_id]
            if lease.generation is None:
                self._leases[lease_id] = replace(lease, generation=generation)
            elif lease.generation != generation:
                self.end(lease_id, now_s)
                void.append(lease)
        return void

    def slots(self, replica_id: str, key: ModelKey) -> int:
        """Slots of a model on a replica that are under a lease."""
        tallies = self._tallies.get(replica_id)
        tally = tallies.get(key) if tallies else None
        return tally.slots if tally else 0

    def slots_of_replica(self, replica_id: str) -> int:
        """Slots of a replica that are under a lease, all models together."""
        return sum(tally.slots for tally in self._tallies.get(replica_id, {}).values())

    def running(self, replica_id: str) -> list[ModelKey]:
        """The models that run on a replica under a lease."""
        return [key for key, tally in self._tallies.get(replica_id, {}).items() if tally.slots]

    def echo(self, replica_id: str, key: ModelKey, now_s: float) -> tuple[int, int]:
        """The fewest and the most slots that were under a lease a moment ago: what a report that arrives now may count."""
        tally = self._tallies.get(replica_id, {}).get(key)
        if tally is None:
            return 0, 0
        self._forget_past(tally, now_s)
        recently = [tally.slots, *(slots for _, slots in tally.past)]
        return min(recently), max(recently)

    def forget_past(self, now_s: float) -> None:
        """Drops the counts of places where nothing runs any more."""
        for replica_id, tallies in list(self._tallies.items()):
            for key, tally in list(tallies.items()):
                self._forget_past(tally, now_s)
                if not tally.slots and not tally.past:
                    del tallies[key]
            if not tallies:
                del self._tallies[replica_id]

    def _count(self, lease: Lease, change: int, now_s: float) -> None:
        tally = self._tallies.setdefault(lease.replica_id, {}).setdefault(lease.key, _Tally())
        self._forget_past(tally, now_s)
        tally.past.append((now_s, tally.slots))
        tally.slots += change

    def _forget_past(self, tally: _Tally, now_s: float) -> None:
        while tally.past and tally.past[0][0] < now_s - self._echo_s:
            tally.past.popleft()


def _strike(index: dict[str, dict[str, None]], name: str, lease_id: str) -> None:
    index[name].pop(lease_id, None)
    if not index[name]:
        del index[name]
