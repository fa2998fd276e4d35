"""The scheduler's API: streams in, events to the owner, its answers out."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.rpc.peers import modality_role, require_role

from trenza_scheduler import translate
from trenza_scheduler.core.actions import Refuse
from trenza_scheduler.core.domain import Reason as RefusalReason
from trenza_scheduler.core.domain import ReplicaReport
from trenza_scheduler.core.events import (
    GatewayOpened,
    LeaseReleased,
    ReplicaBeat,
    ReplicaLeft,
    ReplicaStreamLost,
    TicketArrived,
    TicketCancelled,
)
from trenza_scheduler.outbox import Outbox, too_slow
from trenza_scheduler.owner import Owner

log = logging.getLogger(__name__)

HELLO_S = 10.0
"""How long a gateway may take to say who it is."""

Context = grpc.aio.ServicerContext[Any, Any]


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Serves `trenza.scheduler.v1.SchedulerService`. A gateway that reads nothing for `write_stall_s` seconds is cut off."""

    def __init__(self, owner: Owner, write_stall_s: float) -> None:
        self._owner = owner
        self._write_stall_s = write_stall_s
        self._numbers = itertools.count(1)

    async def Admit(  # type: ignore[override]  # writes instead of yielding, so that its clean-up runs at once
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], context: Context
    ) -> None:
        """A gateway's stream, for as long as it lasts."""
        event = await self._opening(requests)
        outbox = self._owner.open_gateway(event)
        listening = asyncio.create_task(self._listen(event.stream, requests, outbox))
        talking = asyncio.create_task(self._talk(outbox, context))
        try:
            await _first_of(talking, outbox.overflow)
        finally:
            self._owner.close_gateway(event.stream, event.gateway_id)
            await _end(listening, talking)

    async def Heartbeat(  # type: ignore[override]  # as above
        self, requests: AsyncIterator[scheduler_pb2.HeartbeatRequest], context: Context
    ) -> None:
        """A replica's stream, for as long as it lasts."""
        stream = f"replica#{next(self._numbers)}"
        cut = self._owner.open_replica(stream)
        hearing = asyncio.create_task(self._hear_beats(stream, cut, requests, context))
        try:
            await _first_of(hearing, cut)
        finally:
            self._owner.close_replica(stream)
            await _end(hearing)

    async def GetSnapshot(
        self, _request: scheduler_pb2.GetSnapshotRequest, _context: Context
    ) -> scheduler_pb2.GetSnapshotResponse:
        """The fleet and the queues as they are now."""
        return scheduler_pb2.GetSnapshotResponse(snapshot=self._owner.snapshot(), queues=self._owner.queues())

    async def Explain(self, request: scheduler_pb2.ExplainRequest, _context: Context) -> scheduler_pb2.ExplainResponse:
        """What became of a request. Raises RpcFault NOT_FOUND/REQUEST_NOT_FOUND."""
        story = self._owner.story(request.request_id)
        if story is None:
            message = f"The request '{request.request_id[: translate.NAME_LIMIT]}' is not remembered here."
            raise RpcFault(grpc.StatusCode.NOT_FOUND, Reason.REQUEST_NOT_FOUND, message)
        return translate.explanation(story)

    async def _opening(self, requests: AsyncIterator[scheduler_pb2.AdmitRequest]) -> GatewayOpened:
        """The event that a stream's first message is. Raises RpcFault where it is none, or does not come."""
        try:
            async with asyncio.timeout(HELLO_S):
                opening = await anext(aiter(requests), None)
        except TimeoutError:
            raise _invalid(f"No hello within {HELLO_S:g} s.") from None
        if opening is None or opening.WhichOneof("message") != "hello":
            raise _invalid("The first message of a stream is a hello.")
        try:
            translate.check_name("gateway id", opening.hello.gateway_id)
            held = tuple(translate.held_lease(lease) for lease in opening.hello.held_leases)
        except translate.Invalid as error:
            raise _invalid(str(error)) from error
        return GatewayOpened(f"gateway#{next(self._numbers)}", opening.hello.gateway_id, held)

    async def _talk(self, outbox: Outbox, context: Context) -> None:
        """Sends what there is to say, until there will be no more. Raises the outbox's fault, where it has one."""
        while (message := await outbox.take()) is not None:
            try:
                async with asyncio.timeout(self._write_stall_s):
                    await context.write(message)
            except TimeoutError:
                raise too_slow(f"nothing for {self._write_stall_s:g} s") from None
        if outbox.fault is not None:
            raise outbox.fault

    async def _listen(self, stream: str, requests: AsyncIterator[scheduler_pb2.AdmitRequest], outbox: Outbox) -> None:
        """Turns a gateway's messages into events until it ends its side, which closes the outbox."""
        try:
            async for request in requests:
                if outbox.closed:
                    return
                self._hear(stream, request, outbox)
            outbox.close()
        except RpcFault as fault:
            outbox.close(fault)
        except Exception:
            log.exception("a gateway's message could not be dealt with")
            outbox.close(
                RpcFault(grpc.StatusCode.INTERNAL, Reason.INTERNAL, "The scheduler made a mistake; its log says more.")
            )

    def _hear(self, stream: str, request: scheduler_pb2.AdmitRequest, outbox: Outbox) -> None:
        match request.WhichOneof("message"):
            case "ticket":
                try:
                    self._owner.apply(TicketArrived(translate.ticket(stream, request.ticket)))
                except translate.Invalid as error:
                    refusal = Refuse(stream, request.ticket.request_id, RefusalReason.INVALID_TICKET, str(error))
                    self._owner.refuse(refusal)
            case "cancellation":
                outbox.drop_update(request.cancellation.request_id)
                self._owner.apply(TicketCancelled(stream, request.cancellation.request_id))
            case "release":
                outcome = translate.outcome(request.release.outcome)
                self._owner.apply(LeaseReleased(stream, request.release.lease_id, outcome))
            case "hello":
                raise _invalid("There is one hello to a stream, at its beginning.")
            case _:
                pass  # a kind of message that newer gateways may have; it must not cost the stream

    async def _hear_beats(
        self,
        stream: str,
        cut: asyncio.Future[RpcFault],
        requests: AsyncIterator[scheduler_pb2.HeartbeatRequest],
        context: Context,
    ) -> None:
        """Takes in beats and acknowledges them, until the replica ends its side or the stream is cut."""
        interval_ms = round(self._owner.limits.heartbeat_interval_s * 1000)
        replica_id = ""
        try:
            async for beat in requests:
                if cut.done():
                    return
                replica_id = self._same_replica(replica_id, beat.state.replica_id)
                require_role(context, [modality_role(beat.state.modality)])
                if beat.leaving:
                    self._owner.apply(ReplicaLeft(stream, replica_id))
                else:
                    self._owner.apply(ReplicaBeat(stream, _report(beat.state)))
                if cut.done():  # by this very beat
                    return
                answer = scheduler_pb2.HeartbeatResponse(acknowledged_sequence=beat.sequence, interval_ms=interval_ms)
                await context.write(answer)
        finally:
            if replica_id:
                self._owner.apply(ReplicaStreamLost(stream, replica_id))

    def _same_replica(self, known: str, said: str) -> str:
        if not said or (known and said != known):
            raise _invalid("A stream of heartbeats belongs to one replica, which every beat names.")
        return said


async def _first_of(work: asyncio.Task[None], cut: asyncio.Future[RpcFault]) -> None:
    """Waits for the work, unless it is cut short by a fault. Raises that fault, or what the work raises."""
    ends: set[asyncio.Future[Any]] = {work, cut}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if cut.done():
        raise cut.result()
    work.result()


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancels tasks and waits until they are over; what they still raise is of no interest."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _report(state: scheduler_pb2.ReplicaState) -> ReplicaReport:
    try:
        return translate.report(state)
    except translate.Invalid as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> RpcFault:
    return RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message)
