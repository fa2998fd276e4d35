"""The service's end of a worker process: starts it, speaks to it, notices its death, stops it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc

from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.worker import frames
from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts, ModelLoadError
from trenza_runtime.worker.launch import ChildProcess
from trenza_runtime.worker.output import NativeOutput

log = logging.getLogger(__name__)

STALL_LIMIT_S = 120.0
"""A worker sends a pulse every second; one that is silent this long hangs, and is killed."""
_WATCH_EVERY_S = 1.0
_OUTPUT_PIECE_BYTES = 2**16
_STDERR = 2
_BURIAL_S = 5.0
"""How long a process may take to end once it has closed its socket, and its output to arrive once it has ended."""

_CODES: Mapping[str, grpc.StatusCode] = {
    Reason.QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.UNSUPPORTED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.PICTURE_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.PICTURES_UNSUPPORTED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.CONTEXT_LENGTH_EXCEEDED: grpc.StatusCode.INVALID_ARGUMENT,
    # No fault of the replica's, which serves smaller requests as before: nobody is to shun it for that.
    Reason.OUT_OF_MEMORY: grpc.StatusCode.FAILED_PRECONDITION,
}


def fault_of(failure: EngineFailure) -> RpcFault:
    """What a client is told when an engine could not serve its request: reasons that begin with INVALID are its own mistake."""
    invalid = failure.reason.startswith("INVALID")
    fallback = grpc.StatusCode.INVALID_ARGUMENT if invalid else grpc.StatusCode.INTERNAL
    return RpcFault(_CODES.get(failure.reason, fallback), failure.reason, failure.message, failure.details)


class EventStream:
    """The events of some requests that belong together, in lists of (request id, event): all that came since the last look.

    What waits here is bounded by what a request can produce (its `max_tokens`, its pictures): the engine ends it there.
    """

    def __init__(self, request_ids: Iterable[str]) -> None:
        self.unfinished = set(request_ids)
        """Requests that have not ended."""
        self._events: list[tuple[str, Any]] = []
        self._fault: RpcFault | None = None
        self._wake = asyncio.Event()

    def push(self, emission: Emission) -> None:
        """Adds an event; an `EngineFailure` ends the stream with its fault."""
        if emission.last:
            self.unfinished.discard(emission.request_id)
        if isinstance(emission.event, EngineFailure):
            self.fail(fault_of(emission.event))
        else:
            self._events.append((emission.request_id, emission.event))
            self._wake.set()

    def fail(self, fault: RpcFault) -> None:
        """Ends the stream with a fault, after the events that are already there."""
        self._fault = self._fault or fault
        self._wake.set()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> list[tuple[str, Any]]:
        while not self._events:
            if self._fault is not None:
                raise self._fault
            if not self.unfinished:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        events, self._events = self._events, []
        return events


class WorkerProcess:
    """One model in a process of its own. Start it once; when it has ended, make a new one."""

    def __init__(self, name: str, loader: str, spec: Any, stall_limit_s: float = STALL_LIMIT_S) -> None:
        self.name = name
        self.gauges: Mapping[str, float] = {}
        self.ended = asyncio.Event()
        """Set once the process is gone, whether it was stopped or died."""
        self._load = frames.Load(loader, spec)
        self._stall_limit_s = stall_limit_s
        self._streams: dict[str, EventStream] = {}
        self._stopping = False
        self._process: ChildProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._facts: asyncio.Future[ModelFacts] = asyncio.get_running_loop().create_future()
        self._last_frame_s = 0.0
        self._output = NativeOutput(name)
        self._how_it_ended = "is not running"
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int | None:
        """The process's id once it is started."""
        return self._process.pid if self._process else None

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return len(self._streams)

    @property
    def how_it_ended(self) -> str:
        """What became of the process, as the rest of a sentence: "was ended by SIGABRT"."""
        return self._how_it_ended

    async def start(self, on_progress: Callable[[float], None]) -> ModelFacts:
        """Starts the process and waits until the model is loaded.

        Raises ModelLoadError when it cannot be loaded, or when the process dies on the way.
        """
        connection, output = self._launch()
        try:
            reader, self._writer = await asyncio.open_connection(sock=connection)
            output_reader, output_writer = await asyncio.open_connection(sock=output)
            relaying = asyncio.create_task(self._relay(output_reader, output_writer))
            self._tasks = [
                asyncio.create_task(self._read(reader, relaying, on_progress)),
                asyncio.create_task(self._watch_for_stall()),
                relaying,
            ]
            self._send(self._load)
            return await asyncio.shield(self._facts)
        except BaseException:
            await self.stop(0)
            raise

    def _launch(self) -> tuple[socket.socket, socket.socket]:
        """Starts the process; returns our ends of its connection and of its output."""
        connection, their_connection = socket.socketpair()
        output, their_output = socket.socketpair()
        # The worker's own log goes where ours goes; what native code prints comes here and is logged line by line.
        log_fd = os.dup(_STDERR)
        try:
            arguments = [self.name, str(their_connection.fileno()), str(log_fd), str(os.getpid())]
            self._process = ChildProcess(
                [sys.executable, "-m", "trenza_runtime.worker.child", *arguments],
                pass_fds=[their_connection.fileno(), log_fd],
                output_fd=their_output.fileno(),
            )
        except OSError as error:
            connection.close()
            output.close()
            raise ModelLoadError(f"no process can be started for it: {error.strerror}") from error
        finally:
            their_connection.close()
            their_output.close()
            os.close(log_fd)
        return connection, output

    @asynccontextmanager
    async def open(self, requests: Mapping[str, Any]) -> AsyncIterator[EventStream]:
        """Runs requests, by id; leaving the block cancels those that have not ended.

        The stream raises RpcFault: the engine's refusal of one of them, or UNAVAILABLE/ENGINE_CRASHED when the process dies.
        Raises ValueError when one of the ids is open already.
        """
        if self.ended.is_set() or self._stopping:
            raise self._crashed()
        if taken := requests.keys() & self._streams.keys():
            raise ValueError(f"open already: {', '.join(sorted(taken))}")
        stream = EventStream(requests)
        self._streams.update(dict.fromkeys(requests, stream))
        try:
            for request_id, request in requests.items():
                self._send(frames.Submit(request_id, request))
            yield stream
        finally:
            for request_id in requests:
                del self._streams[request_id]
            for request_id in stream.unfinished:
                self._send(frames.Cancel(request_id))

    async def stop(self, grace_s: float) -> None:
        """Ends the process: asks it to close, and kills it after `grace_s` seconds. Open requests end with ENGINE_CRASHED."""
        self._stopping = True
        if self._process is None:
            return
        if grace_s > 0 and self._facts.done():
            self._send(frames.Close())
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace_s)
        self._signal(signal.SIGKILL)
        await (self.ended.wait() if self._tasks else self._process.wait())

    def _send(self, frame: frames.ToWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frames.pack(frame))

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.signal(number)

    async def _read(
        self, reader: asyncio.StreamReader, relaying: asyncio.Task[None], on_progress: Callable[[float], None]
    ) -> None:
        try:
            while True:
                head = await reader.readexactly(frames.HEAD_BYTES)
                frame = frames.unpack(await reader.readexactly(frames.body_bytes(head)))
                self._last_frame_s = time.monotonic()
                self._handle(frame, on_progress)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception:
            log.exception("unreadable frame from a worker", extra={"model": self.name})
            self._signal(signal.SIGKILL)
        finally:
            await asyncio.shield(self._bury(relaying))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Logs what native code prints."""
        with suppress(ConnectionError):
            while piece := await reader.read(_OUTPUT_PIECE_BYTES):
                self._output.feed(piece)
        self._output.end()
        writer.close()

    def _handle(self, frame: frames.FromWorker, on_progress: Callable[[float], None]) -> None:
        match frame:
            case frames.Events():
                for emission in frame.emissions:
                    stream = self._streams.get(emission.request_id)
                    if stream is not None:
                        stream.push(emission)
            case frames.Pulse():
                self.gauges = frame.gauges
            case frames.Loading():
                on_progress(frame.fraction)
            case frames.Loaded():
                self._facts.set_result(frame.facts)
            case frames.LoadFailed():
                self._facts.set_exception(ModelLoadError(frame.message, frame.reason))

    async def _watch_for_stall(self) -> None:
        """Kills a worker that has fallen silent. Loading may be silent for long and is not watched."""
        with suppress(ModelLoadError):
            await asyncio.shield(self._facts)
        while not self.ended.is_set():
            await asyncio.sleep(_WATCH_EVERY_S)
            if time.monotonic() - self._last_frame_s > self._stall_limit_s:
                log.error("worker hangs, killing it", extra={"model": self.name, "silent_s": self._stall_limit_s})
                self._signal(signal.SIGKILL)
                return

    async def _bury(self, relaying: asyncio.Task[None]) -> None:
        """The socket is closed: the process is gone or about to be."""
        assert self._process is not None
        assert self._writer is not None
        self._writer.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), _BURIAL_S)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            code = await self._process.wait()
        # Its last words may still be on their way; a process that it left behind may hold them back for ever.
        await asyncio.wait([relaying], timeout=_BURIAL_S)
        relaying.cancel()
        self._how_it_ended = _how(code)
        if not self._stopping:
            figures = {"how": self._how_it_ended, "open_requests": len(self._streams), "last_output": self._output.tail}
            log.error("worker ended", extra={"model": self.name, **figures})
        self._tell_ended()

    def _tell_ended(self) -> None:
        if not self._facts.done():
            message = f"the process that loaded the model {self._how_it_ended}"
            self._facts.set_exception(ModelLoadError(message, Reason.ENGINE_CRASHED))
            self._facts.exception()  # nobody may be waiting any more, and that is no mistake
        self.ended.set()
        for stream in set(self._streams.values()):
            if stream.unfinished:
                stream.fail(self._crashed())
        self._tasks[1].cancel()

    def _crashed(self) -> RpcFault:
        message = f"The process that ran the model {self.name} {self._how_it_ended}."
        return RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, message, retry_after_s=1.0)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
