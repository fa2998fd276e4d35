"""The one long-lived stream to the scheduler: tickets and releases out, grants, refusals and snapshots in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime.rpc.peers import SCHEDULER
from trenza_runtime.rpc.tls import Transport

from trenza_gateway import metrics
from trenza_gateway.dispatch.core.leases import Lease, LeaseBook
from trenza_gateway.dispatch.core.retrying import Ending, pause_s

logger = logging.getLogger(__name__)

OUTCOMES = {
    Ending.COMPLETED: scheduler_pb2.OUTCOME_COMPLETED,
    Ending.CANCELLED: scheduler_pb2.OUTCOME_CANCELLED,
    Ending.CLIENT_ERROR: scheduler_pb2.OUTCOME_CLIENT_ERROR,
    Ending.REPLICA_BUSY: scheduler_pb2.OUTCOME_REPLICA_BUSY,
    Ending.REPLICA_FAILED: scheduler_pb2.OUTCOME_REPLICA_FAILED,
    Ending.DEADLINE_EXCEEDED: scheduler_pb2.OUTCOME_DEADLINE_EXCEEDED,
    Ending.GATEWAY_ERROR: scheduler_pb2.OUTCOME_GATEWAY_ERROR,
}


QUIET_EVERY_S = 0.05


class LinkLost(Exception):
    """The scheduler is away: there is no stream, or it broke before the ticket was answered."""


class Refused(Exception):
    """The scheduler gives the ticket no place."""

    def __init__(self, refusal: scheduler_pb2.Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """Bounds of the link. `join_s`: until a new stream's first message; `answer_s`: how long a stream may stay wholly
    silent while a ticket is unanswered; `first_pause_s` to `most_pause_s`: between attempts to connect; `quiet_s`: how long a
    stream whose certificate was renewed waits for a moment without unanswered tickets."""

    join_s: float = 2.0
    answer_s: float = 2.0
    first_pause_s: float = 0.05
    most_pause_s: float = 1.0
    quiet_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Line:
    """A channel to the scheduler, and the generation of the certificate that it shows."""

    channel: grpc.aio.Channel
    generation: int


class _Stream:
    """One life of the Admit stream."""

    def __init__(self, now: float) -> None:
        self.answers: dict[str, asyncio.Future[Lease]] = {}
        self.tickets: dict[str, scheduler_pb2.Ticket] = {}
        self.outgoing: asyncio.Queue[scheduler_pb2.AdmitRequest | None] = asyncio.Queue()
        self.broken = asyncio.Event()
        self.joined_at = now
        self.heard_at = now

    async def requests(self) -> AsyncIterator[scheduler_pb2.AdmitRequest]:
        while (request := await self.outgoing.get()) is not None:
            yield request

    def send_ticket(self, ticket: scheduler_pb2.Ticket, answer: asyncio.Future[Lease]) -> None:
        self.answers[ticket.request_id] = answer
        self.tickets[ticket.request_id] = ticket
        self.outgoing.put_nowait(scheduler_pb2.AdmitRequest(ticket=ticket))

    def send_cancellation(self, request_id: str) -> None:
        cancellation = scheduler_pb2.TicketCancellation(request_id=request_id)
        self.outgoing.put_nowait(scheduler_pb2.AdmitRequest(cancellation=cancellation))

    def send_release(self, lease_id: str, ending: Ending, units_used: int) -> None:
        release = scheduler_pb2.LeaseRelease(lease_id=lease_id, outcome=OUTCOMES[ending], units_used=units_used)
        self.outgoing.put_nowait(scheduler_pb2.AdmitRequest(release=release))

    def take(self, request_id: str) -> tuple[scheduler_pb2.Ticket, asyncio.Future[Lease]] | None:
        """The ticket that an answer is for, None where nobody waits for it any more."""
        answer = self.answers.pop(request_id, None)
        ticket = self.tickets.pop(request_id, None)
        return None if answer is None or ticket is None or answer.done() else (ticket, answer)


class SchedulerLink:
    """Keeps the stream up, for ever. What waits to be sent is bounded by the requests in flight."""

    def __init__(
        self,
        address: str,
        gateway_id: str,
        leases: LeaseBook,
        *,
        on_snapshot: Callable[[scheduler_pb2.Snapshot], None],
        on_change: Callable[[], None],
        draw: Callable[[], float],
        times: LinkTimes | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Without a transport, the scheduler is spoken to in the clear."""
        self._transport = transport or Transport()
        self._address = address
        self._gateway_id = gateway_id
        self._leases = leases
        self._on_snapshot = on_snapshot
        self._on_change = on_change
        self._draw = draw
        self._times = times or LinkTimes()
        self._stream: _Stream | None = None
        self._opening: _Stream | None = None

    @property
    def up(self) -> bool:
        """Whether the scheduler can be asked."""
        return self._stream is not None

    @property
    def up_for_s(self) -> float:
        """How long it could be asked without a break."""
        return 0.0 if self._stream is None else _now() - self._stream.joined_at

    async def run(self) -> None:
        """Connects, and again whenever the stream ends or the certificate was renewed."""
        failures = 0
        line = self._dial()
        while True:
            stream = _Stream(_now())
            try:
                end = await self._live(stream, line)
            finally:
                await line.channel.close()
            was_up = self._stream is stream
            self._lose(stream)
            if isinstance(end, _Line):
                line, failures = end, 0
                continue
            failures = 1 if was_up else failures + 1
            if failures == 1:
                logger.warning("scheduler away", extra={"address": self._address, "why": end})
            await asyncio.sleep(pause_s(failures, self._times.first_pause_s, self._times.most_pause_s, self._draw()))
            line = self._dial()

    async def ask(self, ticket: scheduler_pb2.Ticket, limit_s: float) -> Lease:
        """Asks for a place and waits for it, at most `limit_s`.

        Raises Refused, LinkLost, or TimeoutError. Whoever stops waiting withdraws the ticket; a place that was granted
        meanwhile is given back.
        """
        stream = self._stream
        if stream is None:
            raise LinkLost
        answer: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        sent_at = _now()
        stream.send_ticket(ticket, answer)
        try:
            await asyncio.wait({answer}, timeout=min(limit_s, self._times.answer_s))
            if not answer.done() and stream.heard_at < sent_at and limit_s > self._times.answer_s:
                stream.broken.set()
                raise LinkLost
            async with asyncio.timeout_at(sent_at + limit_s):
                return await answer
        except BaseException:
            self._withdraw(stream, ticket.request_id, answer)
            raise

    def release(self, lease_id: str, ending: Ending, units_used: int) -> None:
        """Ends a lease; nothing happens when it has ended before."""
        known = self._leases.end(lease_id)
        # A lease may end after the hello that announces it was written and before the scheduler answers.
        stream = self._stream or self._opening
        if known and stream is not None:
            stream.send_release(lease_id, ending, units_used)

    def _withdraw(self, stream: _Stream, request_id: str, answer: asyncio.Future[Lease]) -> None:
        waiting = stream.take(request_id) is not None
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            self.release(answer.result().lease_id, Ending.CANCELLED, 0)
        elif waiting or answer.cancelled():
            stream.send_cancellation(request_id)

    async def _live(self, stream: _Stream, line: _Line) -> str | _Line:
        """One life of the stream; returns why it ended, or the line that takes over."""
        held = [_held(lease) for lease in self._leases.announce()]
        hello = scheduler_pb2.GatewayHello(gateway_id=self._gateway_id, held_leases=held)
        stream.outgoing.put_nowait(scheduler_pb2.AdmitRequest(hello=hello))
        self._opening = stream
        call = scheduler_pb2_grpc.SchedulerServiceStub(line.channel).Admit(stream.requests())
        reading = asyncio.ensure_future(self._read(stream, call))
        breaking = asyncio.ensure_future(stream.broken.wait())
        succeeding = asyncio.ensure_future(self._successor(stream, line))
        ends: set[asyncio.Future[Any]] = {reading, breaking, succeeding}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if succeeding.done():
                return succeeding.result()
            return reading.result() if reading.done() else "it does not answer"
        finally:
            for end in ends:
                end.cancel()
            await asyncio.wait(ends)
            call.cancel()
            stream.outgoing.put_nowait(None)  # a call that the scheduler ended would wait for requests for ever

    def _dial(self) -> _Line:
        generation = self._transport.generation
        return _Line(self._transport.open_channel(self._address, SCHEDULER), generation)

    async def _successor(self, stream: _Stream, line: _Line) -> _Line:
        """A connected line with the renewed certificate, as soon as there is one and nobody waits for an answer on the old."""
        await self._transport.renewal(line.generation)
        while True:
            successor = self._dial()
            try:
                async with asyncio.timeout(self._times.join_s):
                    await successor.channel.channel_ready()
                await self._quiet(stream)
                return successor
            except TimeoutError:
                logger.warning("no connection with the renewed certificate", extra={"address": self._address})
                await successor.channel.close()
            except asyncio.CancelledError:
                await successor.channel.close()
                raise
            await asyncio.sleep(self._times.most_pause_s)

    async def _quiet(self, stream: _Stream) -> None:
        end = _now() + self._times.quiet_s
        while stream.answers and _now() < end:  # noqa: ASYNC110  that all are answered is no event
            await asyncio.sleep(QUIET_EVERY_S)

    async def _read(
        self, stream: _Stream, call: grpc.aio.StreamStreamCall[scheduler_pb2.AdmitRequest, scheduler_pb2.AdmitResponse]
    ) -> str:
        try:
            async with asyncio.timeout(self._times.join_s):
                response = await call.read()
            while isinstance(response, scheduler_pb2.AdmitResponse):
                stream.heard_at = _now()
                self._hear(stream, response)
                response = await call.read()
            return "it closed the stream"
        except TimeoutError:
            return "it does not answer"
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name

    def _hear(self, stream: _Stream, response: scheduler_pb2.AdmitResponse) -> None:
        kind = response.WhichOneof("message")
        if kind == "grant":
            self._granted(stream, response.grant)
        elif kind == "refusal":
            waiting = stream.take(response.refusal.request_id)
            if waiting is not None:
                waiting[1].set_exception(Refused(response.refusal))
        elif kind == "snapshot":
            self._on_snapshot(response.snapshot)
        if self._stream is not stream:
            self._stream = stream
            stream.joined_at = stream.heard_at
            metrics.SCHEDULER_UP.set(1)
            logger.info("scheduler joined", extra={"address": self._address})
            self._on_change()
        elif kind == "snapshot":
            self._on_change()

    def _granted(self, stream: _Stream, grant: scheduler_pb2.Grant) -> None:
        waiting = stream.take(grant.request_id)
        if waiting is None:
            stream.send_release(grant.lease_id, Ending.CANCELLED, 0)
            return
        ticket, answer = waiting
        lease = Lease(
            lease_id=grant.lease_id,
            request_id=grant.request_id,
            replica_id=grant.replica_id,
            address=grant.address,
            model=ticket.model,
            modality=ticket.modality,
            slots=max(1, ticket.slots),
            from_scheduler=True,
        )
        self._leases.enter(lease)
        answer.set_result(lease)

    def _lose(self, stream: _Stream) -> None:
        """The stream is gone: whoever waits on it learns so, and leases are no longer known to anybody else."""
        self._leases.forget_announcements()
        self._stream = self._opening = None
        metrics.SCHEDULER_UP.set(0)
        for answer in stream.answers.values():
            if not answer.done():
                answer.set_exception(LinkLost())
        stream.answers.clear()
        stream.tickets.clear()
        self._on_change()


def _held(lease: Lease) -> scheduler_pb2.HeldLease:
    return scheduler_pb2.HeldLease(
        lease_id=lease.lease_id,
        request_id=lease.request_id,
        replica_id=lease.replica_id,
        model=lease.model,
        slots=lease.slots,
        modality=lease.modality,  # type: ignore[arg-type]  # the core holds enums as plain numbers
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
