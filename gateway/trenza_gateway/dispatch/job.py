"""What the dispatcher needs to know of a request, whichever API it came by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2


@dataclass(frozen=True, slots=True)
class Job:
    """One request to place. `request_id` is the gateway's own, unique; `deadline` and `place_by` are times of the event
    loop's clock, in seconds: when the answer must be complete, and until when it may wait for a place."""

    request_id: str
    model: str
    modality: common_pb2.Modality.ValueType
    priority: common_pb2.PriorityClass.ValueType
    tenant: str
    session_id: str
    slots: int
    size_estimate: int
    prefix_hashes: Sequence[int]
    arrived_at: float
    deadline: float
    place_by: float

    def ticket(self, now: float, excluded: Sequence[str]) -> scheduler_pb2.Ticket:
        """The ticket that asks for its place."""
        return scheduler_pb2.Ticket(
            request_id=self.request_id,
            modality=self.modality,
            model=self.model,
            priority=self.priority,
            tenant=self.tenant,
            prefix_hashes=self.prefix_hashes,
            session_id=self.session_id,
            slots=self.slots,
            size_estimate=self.size_estimate,
            wait_limit_ms=max(1, int((self.place_by - now) * 1000)),
            excluded_replica_ids=excluded,
        )
