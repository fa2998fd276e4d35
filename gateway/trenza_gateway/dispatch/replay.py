"""A stream of messages that can be sent again from its beginning, as long as the part sent so far is small enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message
from trenza_runtime.errors import Reason, RpcFault

MessageT = TypeVar("MessageT", bound=Message)

KEPT_BYTES = 8 * 2**20
"""As much of an upload is kept for another attempt; refusals come before or soon after the first message."""


class Replay(Generic[MessageT]):
    """Reads `source` once, however many readers there are, one after another."""

    def __init__(self, source: AsyncIterator[MessageT], kept_bytes: int = KEPT_BYTES) -> None:
        self._source = source
        self._room_bytes = kept_bytes
        self._kept: list[MessageT] = []
        self._lost = False
        self._ended = False
        self._reading: asyncio.Future[MessageT | None] | None = None

    def messages(self) -> AsyncIterator[MessageT]:
        """Every message from the first one. Raises RpcFault (UNAVAILABLE) where the beginning is not kept any more."""
        if self._lost:
            message = "The upload cannot be sent to another replica: too much of it was sent already."
            raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.REPLICA_UNREACHABLE, message, retry_after_s=1)
        return self._from_the_beginning()

    async def _from_the_beginning(self) -> AsyncIterator[MessageT]:
        sent = 0
        while True:
            while sent < len(self._kept):
                sent += 1
                yield self._kept[sent - 1]
            if self._ended:
                return
            message = await self._next()
            if message is None:
                self._ended = True
                return
            self._keep(message)
            if self._lost:
                yield message

    async def _next(self) -> MessageT | None:
        """The source's next message, None at its end. A reader that is cancelled leaves it to the reader after it."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(_read(self._source))
        message = await asyncio.shield(self._reading)
        self._reading = None
        return message

    def _keep(self, message: MessageT) -> None:
        self._room_bytes -= message.ByteSize()
        if self._room_bytes < 0:
            self._lost = True
            self._kept.clear()
        else:
            self._kept.append(message)


async def _read(source: AsyncIterator[MessageT]) -> MessageT | None:
    return await anext(source, None)
