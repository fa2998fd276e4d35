"""The gateway's account of its leases: each is entered once and ends once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """A request's place on a replica. `from_scheduler` is false for a place that the gateway chose by itself."""

    lease_id: str
    request_id: str
    replica_id: str
    address: str
    model: str
    modality: int
    slots: int
    from_scheduler: bool


class LeaseBook:
    """The leases held now."""

    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}
        self._slots: dict[str, int] = {}
        self._announced: set[str] = set()

    def enter(self, lease: Lease) -> None:
        """Notes a lease. The scheduler knows those it gave; the gateway's own it learns when they are announced."""
        self._held[lease.lease_id] = lease
        self._slots[lease.replica_id] = self._slots.get(lease.replica_id, 0) + lease.slots
        if lease.from_scheduler:
            self._announced.add(lease.lease_id)

    def end(self, lease_id: str) -> bool:
        """Strikes a lease out; returns whether the scheduler must be told: it knows the lease, and this is its end."""
        lease = self._held.pop(lease_id, None)
        if lease is None:
            return False
        left = self._slots[lease.replica_id] - lease.slots
        if left > 0:
            self._slots[lease.replica_id] = left
        else:
            del self._slots[lease.replica_id]
        known = lease_id in self._announced
        self._announced.discard(lease_id)
        return known

    def announce(self) -> list[Lease]:
        """Every lease held, for the scheduler's new stream; from now on the scheduler knows them."""
        self._announced = set(self._held)
        return list(self._held.values())

    def forget_announcements(self) -> None:
        """The stream is gone and with it what the scheduler knew."""
        self._announced.clear()

    @property
    def slots_by_replica(self) -> Mapping[str, int]:
        """Slots taken on each replica by this gateway's requests."""
        return self._slots

    def __len__(self) -> int:
        return len(self._held)
