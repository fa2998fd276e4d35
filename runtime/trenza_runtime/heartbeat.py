"""Tells the scheduler how this replica is, for as long as it lives, and passes on what the scheduler wants of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc

from trenza_runtime.rpc.peers import SCHEDULER
from trenza_runtime.rpc.tls import Transport

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Describe = Callable[[], scheduler_pb2.ReplicaState]
Obey = Callable[[scheduler_pb2.Directive], Awaitable[None]]
Call = grpc.aio.StreamStreamCall[scheduler_pb2.HeartbeatRequest, scheduler_pb2.HeartbeatResponse]

_INTERVAL_S = 2.0
"""How often to beat until the scheduler says how often it wants to hear of this replica."""
_INTERVALS_S = (0.1, 60.0)
"""Shortest and longest interval that a scheduler can ask for."""
_SHORTEST_GAP_S = 0.05
"""Changes that follow one another faster than this share a beat."""
_RECONNECT_S = (0.1, 1.0)
"""First and longest pause before the stream is opened again; up to half of it, by chance, is left off."""
_MAX_SILENCE_S = 5.0
"""A scheduler that leaves beats unanswered for this long beyond an interval hangs: the stream is opened again."""
_MAX_DIRECTIVES = 256
"""Directives waiting to be obeyed; what comes beyond them is dropped, since the scheduler asks again."""
_LEAVE_S = 1.0
"""How long leaving may take."""
_SUCCESSION_S = 5.0
"""How long a stream that takes over, after the certificate was renewed, may take until the scheduler answers on it."""


class _Stream:
    """One life of the heartbeat. `heard` is set once the scheduler answers; after `hush` it says nothing more."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        self.beating: asyncio.Task[None] | None = None
        self.hushed = False

    def hush(self) -> None:
        self.hushed = True
        if self.beating is not None:
            self.beating.cancel()


class HeartbeatClient:
    """One replica's heartbeat. `describe` is called for every beat; `obey` for every directive, in order, one at a time."""

    def __init__(
        self, scheduler_address: str, describe: Describe, obey: Obey, transport: Transport | None = None
    ) -> None:
        """Without a transport, the scheduler is spoken to in the clear."""
        self._transport = transport or Transport()
        self._address = scheduler_address
        self._describe = describe
        self._obey = obey
        self._interval_s = _INTERVAL_S
        self._sequence = 0
        self._due = asyncio.Event()
        self._leaving = False
        self._goodbye = 0  # sequence of the beat that says so; none has it before
        self._left = asyncio.Event()
        self._directives: asyncio.Queue[scheduler_pb2.Directive] = asyncio.Queue(_MAX_DIRECTIVES)
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether the scheduler has answered on the stream that is open now."""
        return self._connected

    def beat_now(self) -> None:
        """Beats as soon as may be: something has changed. At most 20 such beats a second are sent."""
        self._due.set()

    async def leave(self) -> None:
        """Tells the scheduler that this replica goes for good, if it can be told within a second; `run` returns."""
        self._leaving = True
        self._due.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), _LEAVE_S)
        self._left.set()

    async def run(self) -> None:
        """Beats until `leave` or cancellation. A scheduler that is away or comes back needs nothing done here."""
        tasks = [asyncio.create_task(self._keep_beating()), asyncio.create_task(self._obey_directives())]
        try:
            await self._left.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._connected = False
            self._left.set()

    async def _keep_beating(self) -> None:
        first_s, longest_s = _RECONNECT_S
        failures = 0
        while True:
            why = await self._streams()
            if self._connected or not failures:
                log.warning("the scheduler does not hear this replica", extra={"address": self._address, "why": why})
                failures = 0
            self._connected = False
            await asyncio.sleep(min(longest_s, first_s * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))
            failures += 1

    async def _streams(self) -> str:
        """Beats on one stream, and after a renewal of the certificate on the next, until one breaks; returns why it did."""
        tasks: set[asyncio.Task[Any]] = set()

        def begin(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
            task = asyncio.create_task(work)
            tasks.add(task)
            return task

        try:
            stream, generation = _Stream(), self._transport.generation
            living = begin(self._one_stream(stream))
            while True:
                renewal = begin(self._transport.renewal(generation))
                await asyncio.wait({living, renewal}, return_when=asyncio.FIRST_COMPLETED)
                if living.done():
                    return living.result()
                # The scheduler takes a replica's newest stream for the one that counts, so the old one must not beat again,
                # and has to stay until the new one is heard, lest the replica seem lost.
                stream.hush()
                before, stream, generation = living, _Stream(), self._transport.generation
                living, heard = begin(self._one_stream(stream)), begin(stream.heard.wait())
                await asyncio.wait({living, heard}, timeout=_SUCCESSION_S, return_when=asyncio.FIRST_COMPLETED)
                before.cancel()
                tasks.intersection_update({living, before, heard})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one_stream(self, stream: _Stream) -> str:
        """Beats on one stream until it breaks; returns why it did. Never raises for what the scheduler does."""
        # A connection of its own each time: a channel that failed would make its next call wait for its own back-off.
        async with self._transport.open_channel(self._address, SCHEDULER) as channel:
            call = scheduler_pb2_grpc.SchedulerServiceStub(channel).Heartbeat()
            stream.beating = asyncio.create_task(self._beat_on(call))
            try:
                while True:
                    async with asyncio.timeout(self._interval_s + _MAX_SILENCE_S):
                        answer = await call.read()
                    if not isinstance(answer, scheduler_pb2.HeartbeatResponse):
                        return "it ended the stream"
                    if not stream.hushed:
                        stream.heard.set()
                        self._hear(answer)
            except TimeoutError:
                return "it does not answer"
            except grpc.aio.AioRpcError as error:
                return f"{error.code().name}: {error.details()}"
            finally:
                stream.beating.cancel()
                call.cancel()

    async def _beat_on(self, call: Call) -> None:
        """A beat at once, one per interval, and one whenever something changes; the last says that the replica leaves."""
        leaving = False
        while not leaving:
            leaving = self._leaving
            self._due.clear()
            sent_s = time.monotonic()
            try:
                await call.write(self._beat())
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream is over, and whoever reads it learns why
            except Exception:
                log.exception("this replica cannot describe itself")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._interval_s)
            await asyncio.sleep(max(0.0, sent_s + _SHORTEST_GAP_S - time.monotonic()))

    def _beat(self) -> scheduler_pb2.HeartbeatRequest:
        self._sequence += 1
        if self._leaving:
            self._goodbye = self._sequence
        return scheduler_pb2.HeartbeatRequest(state=self._describe(), sequence=self._sequence, leaving=self._leaving)

    def _hear(self, answer: scheduler_pb2.HeartbeatResponse) -> None:
        if not self._connected:
            self._connected = True
            log.info("the scheduler hears this replica", extra={"address": self._address})
        if answer.interval_ms:
            shortest_s, longest_s = _INTERVALS_S
            interval_s = min(max(answer.interval_ms / 1000, shortest_s), longest_s)
            if interval_s < self._interval_s:
                self._due.set()  # the beat that is being waited for may be overdue by now
            self._interval_s = interval_s
        for directive in answer.directives:
            try:
                self._directives.put_nowait(directive)
            except asyncio.QueueFull:
                log.warning("too many directives at once, one is dropped")
        if self._goodbye and answer.acknowledged_sequence == self._goodbye:
            self._left.set()

    async def _obey_directives(self) -> None:
        while True:
            directive = await self._directives.get()
            try:
                await self._obey(directive)
            except Exception:
                log.exception("a directive could not be obeyed", extra={"order": directive.WhichOneof("order")})
