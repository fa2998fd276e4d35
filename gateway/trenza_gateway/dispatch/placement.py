"""Finds a place for a request: the scheduler's grant, or the gateway's own choice while the scheduler is away."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Sequence

from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import RpcFault

from trenza_gateway import metrics
from trenza_gateway.dispatch import faults
from trenza_gateway.dispatch.core.leases import Lease, LeaseBook
from trenza_gateway.dispatch.core.retrying import Ending, pause_s
from trenza_gateway.dispatch.core.routing import Need, Nowhere, choose
from trenza_gateway.dispatch.fleet import Fleet
from trenza_gateway.dispatch.job import Job
from trenza_gateway.dispatch.link import LinkLost, Refused, SchedulerLink

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
MOST_PAUSE_S = 1.0
SHUN_S = 3.0
"""How long a replica that could not be reached is left alone while the gateway chooses by itself."""

SCHEDULER_RETURN_S = 5.0
"""How long the scheduler may be away until requests that only it can help are refused: about as long as its restart takes."""

_NOT_FINAL_WHILE_UNSETTLED = frozenset(
    {scheduler_pb2.REFUSAL_REASON_MODEL_NOT_FOUND, scheduler_pb2.REFUSAL_REASON_NO_CAPACITY}
)


class Placement:
    """Gives out places and takes them back."""

    def __init__(self, link: SchedulerLink, fleet: Fleet, leases: LeaseBook, draw: Callable[[], float]) -> None:
        self._link = link
        self._fleet = fleet
        self._leases = leases
        self._draw = draw
        self._shunned_until: dict[str, float] = {}
        self._news = asyncio.Event()
        self._away_since: float | None = None

    async def place(self, job: Job, excluded: Sequence[str] = ()) -> Lease:
        """A place for the request, not on the `excluded` replicas while there is another.

        Raises RpcFault when there is none: refused, unknown model, or not in time.
        """
        avoided: Collection[str] = excluded
        attempt = 0
        while True:
            left_s = job.place_by - _now()
            if left_s <= 0:
                raise _too_late(job)
            found = await self._by_scheduler(job, excluded, left_s) or self._by_itself(job, avoided)
            if isinstance(found, Lease):
                metrics.PLACEMENTS.labels("scheduler" if found.from_scheduler else "gateway").inc()
                return found
            if found is Nowhere.UNKNOWN_MODEL:
                self._require_hope(job)
            if found is Nowhere.NO_REPLICA:
                avoided = ()
                self._shunned_until.clear()
            attempt += 1
            await self._wait(min(left_s, pause_s(attempt, FIRST_PAUSE_S, MOST_PAUSE_S, self._draw())))

    def _require_hope(self, job: Job) -> None:
        """Raises RpcFault where no replica has the model and none is going to: nobody expects it, or the scheduler, whose word
        has one started, is away for long."""
        if self._fleet.model(job.model) is None:
            raise faults.model_not_found(job.model)
        self._note_link()
        if self._away_since is not None and _now() - self._away_since >= SCHEDULER_RETURN_S:
            raise faults.nobody_starts(job.model)

    def _note_link(self) -> None:
        if self._link.up:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = _now()

    def release(self, lease: Lease, ending: Ending, units_used: int) -> None:
        """Ends a lease and says how the request ended."""
        if ending is Ending.REPLICA_FAILED:
            self._shunned_until[lease.replica_id] = _now() + SHUN_S
        self._link.release(lease.lease_id, ending, units_used)
        self.wake()

    @property
    def scheduler_up_for_s(self) -> float:
        """How long the scheduler has been there without a break; 0 while it is away."""
        return self._link.up_for_s

    def wake(self) -> None:
        """Something has changed that requests may be waiting for: the scheduler, the fleet, or room on a replica."""
        self._note_link()
        self._news.set()
        self._news = asyncio.Event()

    async def _by_scheduler(self, job: Job, excluded: Sequence[str], left_s: float) -> Lease | None:
        """The scheduler's place; None when it is away or does not know its fleet yet."""
        if not self._link.up:
            return None
        ticket = job.ticket(_now(), excluded)
        try:
            return await self._link.ask(ticket, left_s + GRACE_S)
        except LinkLost:
            return None
        except TimeoutError:
            raise _too_late(job) from None
        except Refused as refused:
            if self._is_final(refused.refusal):
                raise _refusal_fault(job, refused.refusal) from None
            return None

    def _is_final(self, refusal: scheduler_pb2.Refusal) -> bool:
        if refusal.reason == scheduler_pb2.REFUSAL_REASON_SHUTTING_DOWN:
            return False
        picture = self._fleet.picture
        settled = picture is None or picture.settled
        return settled or refusal.reason not in _NOT_FINAL_WHILE_UNSETTLED

    def _by_itself(self, job: Job, avoided: Collection[str]) -> Lease | Nowhere:
        """The gateway's own choice, by its last picture of the fleet."""
        picture = self._fleet.picture
        if picture is None:
            return Nowhere.NO_REPLICA
        now = _now()
        shunned = {name for name, until in self._shunned_until.items() if until > now}
        need = Need(job.model, job.modality, job.slots)
        chosen = choose(
            picture, need, self._leases.slots_by_replica, {*avoided, *shunned}, (self._draw(), self._draw())
        )
        if isinstance(chosen, Nowhere):
            return chosen
        lease = Lease(
            lease_id=f"own-{uuid.uuid4().hex}",
            request_id=job.request_id,
            replica_id=chosen.replica_id,
            address=chosen.address,
            model=job.model,
            modality=job.modality,
            slots=job.slots,
            from_scheduler=False,
        )
        self._leases.enter(lease)
        return lease

    async def _wait(self, limit_s: float) -> None:
        """Until there is news, or the limit."""
        try:
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        except TimeoutError:
            pass


GRACE_S = 2.0
"""How much longer than a ticket's own wait limit its refusal may take to arrive."""


def _too_late(job: Job) -> RpcFault:
    return faults.deadline_exceeded() if job.deadline <= job.place_by else faults.wait_limit_exceeded()


def _refusal_fault(job: Job, refusal: scheduler_pb2.Refusal) -> RpcFault:
    if refusal.reason == scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED and job.deadline <= job.place_by:
        return faults.deadline_exceeded(refusal.message)
    return faults.refusal_fault(refusal)


def _now() -> float:
    return asyncio.get_running_loop().time()
