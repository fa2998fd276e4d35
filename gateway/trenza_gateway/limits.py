"""Bounds on what requests may take: bodies in bytes and time, memory of all bodies together, requests at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request
from starlette.types import Scope

from trenza_gateway.openai.errors import SERVER, ApiError, bad_request

_HELD = "trenza.held_body_bytes"
_ANSWER_HELD = "trenza.held_answer_bytes"
STRING_BLOCK_BYTES = 16 * 1024


class ClientGone(Exception):
    """The client has closed the connection; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """`body_bytes` for one body, `all_bodies_bytes` for all running requests', `read_s` until one must be complete.

    Where pictures belong into a body, they may take `pictures_bytes` beside that.
    """

    body_bytes: int
    all_bodies_bytes: int
    read_s: float
    pictures_bytes: int = 0


class Bodies:
    """Reads bodies within the limits. A body counts until its request ends, since what it says lives on as long."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._held_bytes = 0

    async def read(self, request: Request, with_pictures: bool = False) -> bytes:
        """The body. Raises ApiError (413 too large, 408 too slow, 415 compressed, 503 too much at once) or ClientGone."""
        limit_bytes = self._limits.body_bytes + (self._limits.pictures_bytes if with_pictures else 0)
        _require_size(declared_length(request), limit_bytes)
        refuse_compression(request)
        try:
            async with asyncio.timeout(self._limits.read_s):
                body = await self._collect(request, limit_bytes)
        except TimeoutError:
            message = f"The body did not arrive within {self._limits.read_s:g} s."
            raise ApiError(408, message, code="body_timeout", headers={"connection": "close"}) from None
        if len(body) > self._limits.body_bytes:
            # Values take many times the memory of their JSON; only inside long strings may there be more of it.
            _require_size(len(body) - long_strings_bytes(body), self._limits.body_bytes, ", pictures aside,")
        return body

    def hold(self, scope: Scope, size_bytes: int) -> None:
        """Counts memory that a request takes beside its body until it ends. Raises ApiError (503 too much at once)."""
        if not self.try_hold(scope, size_bytes):
            raise ApiError(503, "Too many large requests at once.", kind=SERVER, code="overloaded", retry_after_s=1)

    def try_hold(self, scope: Scope, size_bytes: int) -> bool:
        """Counts memory, and tells whether there is that much; `forget` must follow in either case."""
        self._held_bytes += size_bytes
        scope[_HELD] = scope.get(_HELD, 0) + size_bytes
        return self._held_bytes <= self._limits.all_bodies_bytes

    def forget(self, scope: Scope) -> None:
        """The request has ended; its body counts no more."""
        self._held_bytes -= scope.pop(_HELD, 0)

    async def _collect(self, request: Request, limit_bytes: int) -> bytes:
        body = bytearray()
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            self.hold(request.scope, len(chunk))
            body += chunk
            _require_size(len(body), limit_bytes)
            if not message.get("more_body", False):
                return bytes(body)


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """What answers that must be gathered may take in memory: `answer_bytes` one, `all_answers_bytes` all of them together."""

    answer_bytes: int
    all_answers_bytes: int


class Answers:
    """Counts what is gathered of answers. It counts until it is sent piece by piece, or the request ends."""

    def __init__(self, limits: AnswerLimits) -> None:
        self._limits = limits
        self.held_bytes = 0

    def hold(self, scope: Scope, size_bytes: int) -> None:
        """Counts more of a request's answer, or less where it is negative. Raises ApiError (502 one too large, 503)."""
        self.held_bytes += size_bytes
        scope[_ANSWER_HELD] = scope.get(_ANSWER_HELD, 0) + size_bytes
        if size_bytes > 0 and scope[_ANSWER_HELD] > self._limits.answer_bytes:
            message = f"The answer takes more than the {self._limits.answer_bytes} bytes that one may have."
            raise ApiError(502, message, kind=SERVER, code="answer_too_large")
        if size_bytes > 0 and self.held_bytes > self._limits.all_answers_bytes:
            raise ApiError(503, "Too many large answers at once.", kind=SERVER, code="overloaded", retry_after_s=1)

    def forget(self, scope: Scope) -> None:
        """The request has ended; its answer counts no more."""
        self.held_bytes -= scope.pop(_ANSWER_HELD, 0)


def long_strings_bytes(body: bytes) -> int:
    """How much of a JSON body lies within long strings without commas, as base64 is; in whole blocks.

    A block with neither quotes nor commas cannot hold several values.
    """
    blocks = range(0, len(body) - STRING_BLOCK_BYTES + 1, STRING_BLOCK_BYTES)
    return STRING_BLOCK_BYTES * sum(
        body.find(b'"', start, start + STRING_BLOCK_BYTES) < 0
        and body.find(b",", start, start + STRING_BLOCK_BYTES) < 0
        for start in blocks
    )


def _require_size(size_bytes: int, limit_bytes: int, aside: str = "") -> None:
    if size_bytes > limit_bytes:
        raise ApiError(413, f"The body{aside} must be at most {limit_bytes} bytes.", code="body_too_large")


def refuse_compression(request: Request) -> None:
    """Raises ApiError (415) for a compressed body."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError(415, "Compressed bodies are not understood.", code="unsupported_encoding")


def declared_length(request: Request) -> int:
    """The body's length as the client says, 0 where it does not. Raises ApiError (400) where that is no number."""
    said = request.headers.get("content-length", "0")
    if not (said.isascii() and said.isdigit()):
        raise bad_request("Invalid Content-Length.")
    return int(said)


class RequestCounter:
    """Counts the requests being served and refuses more than `most`.

    `leaving` once the gateway shuts down: what still arrives is served, since load balancers need a while to notice, and each
    answer asks its client to come back on another connection.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.running = 0
        self.leaving = False

    def enter(self) -> None:
        """Counts a request in. Raises ApiError (503) when it cannot be taken; otherwise `leave` must follow."""
        if self.running >= self._most:
            raise ApiError(
                503, "The gateway has as many requests as it takes.", kind=SERVER, code="overloaded", retry_after_s=1
            )
        self.running += 1

    def leave(self) -> None:
        """Counts a request out."""
        self.running -= 1
