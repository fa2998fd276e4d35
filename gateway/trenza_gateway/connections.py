"""A guard on every HTTP connection: their number, slow and endless heads, answers that nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trenza_gateway import metrics
from trenza_gateway.openai.encoding import json_bytes
from trenza_gateway.openai.errors import SERVER, ApiError, bad_request

MAX_BLANK_BYTES = 64
"""Empty lines before a request are allowed, so many of them."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`count` connections at one time; a request's head within `head_s` and `head_bytes`; a client that leaves its answer
    unread, while it is made or after its end, is cut off after `write_stall_s`."""

    count: int
    head_s: float
    write_stall_s: float
    head_bytes: int = 64 * 1024


@dataclass(slots=True)
class Progress:
    """What a connection is waiting for, as times of the event loop's clock; None where it is not waiting for that."""

    head_since: float | None = None
    head_bytes: int = 0
    head_begun: bool = False
    stalled_since: float | None = None
    closing_since: float | None = None


def overdue(progress: Progress, limits: ConnectionLimits, now: float) -> str | None:
    """Why a connection is to be cut off, None while it may go on."""
    if progress.head_since is not None and now - progress.head_since > limits.head_s:
        return "slow_head"
    if progress.stalled_since is not None and now - progress.stalled_since > limits.write_stall_s:
        return "unread_answer"
    if progress.closing_since is not None and now - progress.closing_since > limits.write_stall_s:
        return "unread_answer"
    return None


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, noting what each connection waits for. `sweep` acts on it."""

    limits: ClassVar[ConnectionLimits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = Progress()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        metrics.CONNECTIONS.inc()
        self.progress.head_since = self.loop.time()
        if len(self.connections) > self.limits.count:
            metrics.CONNECTIONS_CLOSED.labels("too_many").inc()
            transport.write(_TOO_MANY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        metrics.CONNECTIONS.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.progress.head_since is None and (self.cycle is None or self.cycle.response_complete):
            self.progress.head_since = self.loop.time()
            self.progress.head_bytes = 0
        super().data_received(data)
        if self.progress.head_since is not None and not self._discarding():
            self._count_head(len(data))

    def on_message_begin(self) -> None:
        self.progress.head_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.progress.head_since = None
        self.progress.head_bytes = 0
        self.progress.head_begun = False
        super().on_headers_complete()

    def pause_writing(self) -> None:
        self.progress.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.progress.stalled_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_raw_response(bad_request(msg)))
        self.transport.close()

    def cut_off(self, why: str) -> None:
        """Ends the connection without waiting for the client."""
        metrics.CONNECTIONS_CLOSED.labels(why).inc()
        self.transport.abort()

    def _count_head(self, size_bytes: int) -> None:
        self.progress.head_bytes += size_bytes
        if self.progress.head_bytes > self.limits.head_bytes:
            self.cut_off("long_head")
        elif not self.progress.head_begun and self.progress.head_bytes > MAX_BLANK_BYTES:
            self.send_400_response("Nothing but empty lines.")

    def _discarding(self) -> bool:
        """Whether what arrives is the rest of a body that has been answered already."""
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body


def guarded_protocol(bounds: ConnectionLimits) -> type[GuardedProtocol]:
    """The protocol with its limits."""

    class Guarded(GuardedProtocol):
        limits = bounds

    return Guarded


def sweep(connections: Iterable[object], limits: ConnectionLimits, now: float) -> None:
    """Cuts off every connection that has made no progress for too long."""
    for connection in list(connections):
        if not isinstance(connection, GuardedProtocol):
            continue
        if connection.transport.is_closing() and connection.progress.closing_since is None:
            connection.progress.closing_since = now
        why = overdue(connection.progress, limits, now)
        if why is not None:
            connection.cut_off(why)


def _raw_response(error: ApiError) -> bytes:
    body = json_bytes(error.body())
    head = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **error.headers(),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n{lines}\r\n".encode() + body


_TOO_MANY = _raw_response(
    ApiError(503, "The gateway has as many connections as it takes.", kind=SERVER, code="overloaded", retry_after_s=1)
)
