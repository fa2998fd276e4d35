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
    """Reads `source` once, however many readers there are, one after another or at the same time."""

    def __init__(self, source: AsyncIterator[MessageT], kept_bytes: int = KEPT_BYTES) -> None:
        self._source = source
        self._room_bytes = kept_bytes
        self._kept: list[MessageT] = []
        self._dropped = 0
        self._ended = False
        self._reading: asyncio.Future[None] | None = None

    def messages(self) -> AsyncIterator[MessageT]:
        """Every message from the first one. Raises RpcFault (UNAVAILABLE) where the beginning is not kept any more."""
        if self._dropped:
            raise _too_late()
        return self._from_the_beginning()

    async def _from_the_beginning(self) -> AsyncIterator[MessageT]:
        position = 0
        while True:
            while position < self._dropped + len(self._kept):
                if position < self._dropped:
                    raise _too_late()
                yield self._kept[position - self._dropped]
                position += 1
            if self._ended:
                return
            await self._more()

    async def _more(self) -> None:
        """Waits for the source. A reader that is cancelled leaves what it waited for to the others."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        message = await anext(self._source, None)
        self._reading = None
        if message is None:
            self._ended = True
        else:
            self._keep(message)

    def _keep(self, message: MessageT) -> None:
        self._room_bytes -= message.ByteSize()
        if self._room_bytes < 0:
            self._dropped += len(self._kept)
            self._kept.clear()
        self._kept.append(message)


def _too_late() -> RpcFault:
    message = "The upload cannot be sent to another replica: too much of it was sent already."
    return RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.REPLICA_UNREACHABLE, message, retry_after_s=1)
