"""The scheduler's API: streams in, events to the owner, its answers out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from trenza.scheduler.v1 import scheduler_pb2 as pb
from trenza.scheduler.v1 import scheduler_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault

from trenza_scheduler import translate
from trenza_scheduler.core.domain import (
    GatewayClosed,
    GatewayOpened,
    LeaseReleased,
    ReplicaBeat,
    ReplicaLeft,
    ReplicaStreamLost,
    TicketArrived,
    TicketCancelled,
)
from trenza_scheduler.owner import Outbox, Owner

Context = grpc.aio.ServicerContext[Any, Any]


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Serves `trenza.scheduler.v1.SchedulerService`. `stopping` ends its streams so that the process can stop."""

    def __init__(self, owner: Owner, stopping: asyncio.Event) -> None:
        self._owner = owner
        self._stopping = stopping
        self._numbers = itertools.count()

    async def Admit(
        self, requests: AsyncIterator[pb.AdmitRequest], context: Context
    ) -> AsyncIterator[pb.AdmitResponse]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("message") != "hello" or not first.hello.gateway_id:
            raise _invalid("The first message must be a hello that names the gateway.")
        stream = f"{first.hello.gateway_id}#{next(self._numbers)}"
        held = tuple(translate.held_lease(lease) for lease in first.hello.held_leases)
        outbox = self._owner.open_outbox(stream)
        self._owner.apply(GatewayOpened(stream, first.hello.gateway_id, held))
        listening = asyncio.create_task(self._listen(stream, requests))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                messages = await _first_of(outbox, listening, stopped)
                for message in messages:
                    yield message
                if outbox.overflowed:
                    complaint = "The gateway does not read what it is told."
                    raise RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, complaint)
                if listening.done():
                    listening.result()
                    return
                if stopped.done() and not messages:
                    raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.DRAINING, "The scheduler is stopping.")
        finally:
            listening.cancel()
            stopped.cancel()
            self._owner.close_outbox(stream)
            self._owner.apply(GatewayClosed(stream))

    async def Heartbeat(
        self, requests: AsyncIterator[pb.HeartbeatRequest], context: Context
    ) -> AsyncIterator[pb.HeartbeatResponse]:
        stream, replica_id, left = f"beat#{next(self._numbers)}", "", False
        interval_ms = round(self._owner.limits.heartbeat_interval_s * 1000)
        try:
            async for beat in requests:
                if not beat.state.replica_id or (replica_id and beat.state.replica_id != replica_id):
                    raise _invalid("A stream of heartbeats belongs to one replica, which they name.")
                replica_id = beat.state.replica_id
                if beat.leaving:
                    left = True
                    self._owner.apply(ReplicaLeft(replica_id))
                else:
                    left = False
                    self._owner.apply(ReplicaBeat(stream, translate.report(beat.state)))
                yield pb.HeartbeatResponse(acknowledged_sequence=beat.sequence, interval_ms=interval_ms)
        finally:
            if replica_id and not left:
                self._owner.apply(ReplicaStreamLost(stream, replica_id))

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Context) -> pb.GetSnapshotResponse:
        now_s = asyncio.get_running_loop().time()
        return pb.GetSnapshotResponse(
            snapshot=self._owner.snapshot(), queues=translate.queues(self._owner.machine, now_s)
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        story = self._owner.machine.stories.get(request.request_id)
        if story is None:
            message = f"There is no memory of the request {request.request_id[:128]!r}."
            raise RpcFault(grpc.StatusCode.NOT_FOUND, Reason.REQUEST_NOT_FOUND, message)
        return translate.explanation(story, asyncio.get_running_loop().time())

    async def _listen(self, stream: str, requests: AsyncIterator[pb.AdmitRequest]) -> None:
        """Turns a gateway's messages into events until it ends its side."""
        async for request in requests:
            match request.WhichOneof("message"):
                case "ticket":
                    longest_s = self._owner.limits.longest_wait_s
                    self._owner.apply(TicketArrived(translate.ticket(stream, request.ticket, longest_s)))
                case "cancellation":
                    self._owner.apply(TicketCancelled(stream, request.cancellation.request_id))
                case "release":
                    served = request.release.outcome == pb.OUTCOME_COMPLETED
                    self._owner.apply(LeaseReleased(stream, request.release.lease_id, served))
                case "hello":
                    raise _invalid("There is one hello, at the beginning.")
                case _:
                    pass  # a message of a newer gateway; it must not cost the stream


async def _first_of(
    outbox: Outbox, listening: asyncio.Task[None], stopped: asyncio.Task[bool]
) -> list[pb.AdmitResponse]:
    """What is to be told next; empty when the gateway or the scheduler ends the stream before there is anything."""
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.wait({taking, listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if taking.done():
        return taking.result()
    taking.cancel()
    with suppress(asyncio.CancelledError):
        await taking
    return []


def _invalid(message: str) -> RpcFault:
    return RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message)
