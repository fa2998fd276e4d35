"""A scheduler that does as it is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import grpc
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc


class Scheduled(Protocol):
    """A replica, as far as a scheduler goes."""

    replica_id: str
    address: str

    def view(self) -> scheduler_pb2.ReplicaView: ...


Policy = Callable[[scheduler_pb2.Ticket], scheduler_pb2.AdmitResponse | None]


class FakeScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """A scheduler that grants the least used replica at once, unless `policy` says otherwise (None: let it wait)."""

    def __init__(self, replicas: Sequence[Scheduled]) -> None:
        self.replicas = list(replicas)
        self.policy: Policy | None = None
        self.settled = True
        self.expected: list[scheduler_pb2.ExpectedModel] = []
        self.hellos: list[scheduler_pb2.GatewayHello] = []
        self.tickets: list[scheduler_pb2.Ticket] = []
        self.cancellations: list[str] = []
        self.releases: list[scheduler_pb2.LeaseRelease] = []
        self.leases: dict[str, str] = {}
        self.port = 0
        self._outgoing: asyncio.Queue[scheduler_pb2.AdmitResponse] | None = None
        self._server: grpc.aio.Server | None = None
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def die(self) -> None:
        """Stops at once, as a killed process would."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
            self._outgoing = None

    def send(self, response: scheduler_pb2.AdmitResponse) -> None:
        assert self._outgoing is not None
        self._outgoing.put_nowait(response)

    def snapshot(self) -> scheduler_pb2.AdmitResponse:
        views = [replica.view() for replica in self.replicas]
        return scheduler_pb2.AdmitResponse(
            snapshot=scheduler_pb2.Snapshot(
                version=1, epoch="fake", replicas=views, settled=self.settled, expected_models=self.expected
            )
        )

    def grant(self, ticket: scheduler_pb2.Ticket) -> scheduler_pb2.AdmitResponse | None:
        """A grant on the replica with the fewest leases, not an excluded one while there is another."""
        able = [replica for replica in self.replicas if _serves(replica, ticket.model)]
        wanted = [replica for replica in able if replica.replica_id not in ticket.excluded_replica_ids] or able
        if not wanted:
            return None
        chosen = min(wanted, key=lambda replica: list(self.leases.values()).count(replica.replica_id))
        lease_id = f"lease-{next(self._numbers)}"
        self.leases[lease_id] = chosen.replica_id
        return scheduler_pb2.AdmitResponse(
            grant=scheduler_pb2.Grant(
                request_id=ticket.request_id,
                lease_id=lease_id,
                replica_id=chosen.replica_id,
                address=chosen.address,
                model_loaded=True,
            )
        )

    async def Admit(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], context: Any
    ) -> AsyncIterator[scheduler_pb2.AdmitResponse]:
        outgoing = self._outgoing = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(requests, outgoing))
        try:
            while True:
                yield await outgoing.get()
        finally:
            reading.cancel()

    def Heartbeat(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetSnapshot(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Explain(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def _read(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], outgoing: asyncio.Queue[scheduler_pb2.AdmitResponse]
    ) -> None:
        async for request in requests:
            kind = request.WhichOneof("message")
            if kind == "hello":
                self.hellos.append(request.hello)
                outgoing.put_nowait(self.snapshot())
            elif kind == "ticket":
                self.tickets.append(request.ticket)
                answer = (self.policy or self.grant)(request.ticket)
                if answer is not None:
                    outgoing.put_nowait(answer)
            elif kind == "cancellation":
                self.cancellations.append(request.cancellation.request_id)
            elif kind == "release":
                self.releases.append(request.release)
                self.leases.pop(request.release.lease_id, None)


def _serves(replica: Scheduled, model: str) -> bool:
    return model in {item.model.name for item in replica.view().state.models}


def waiting(ticket: scheduler_pb2.Ticket) -> scheduler_pb2.AdmitResponse:
    """A policy: every ticket queues, and learns so."""
    return scheduler_pb2.AdmitResponse(queue_update=scheduler_pb2.QueueUpdate(request_id=ticket.request_id, position=1))


def refusing(reason: int, retry_after_ms: int = 0) -> Policy:
    """A policy: every ticket is refused."""
    return lambda ticket: scheduler_pb2.AdmitResponse(
        refusal=scheduler_pb2.Refusal(
            request_id=ticket.request_id,
            reason=reason,  # type: ignore[arg-type]
            message="Not now.",
            retry_after_ms=retry_after_ms,
        )
    )
