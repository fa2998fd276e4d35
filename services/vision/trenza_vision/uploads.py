"""Takes an upload in as its pieces arrive, within limits: pictures, then the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from trenza.chat.v1 import chat_pb2
from trenza.vision.v1 import vision_pb2 as pb
from trenza_llama.api.requests import invalid
from trenza_runtime.errors import RpcFault

from trenza_vision.core.room import RoomFull, Share
from trenza_vision.translate import too_slow

CHUNK_BYTES = 2**20
"""The most of a picture that one message carries."""

UploadT = TypeVar("UploadT", pb.DescribeRequest, pb.CountTokensRequest)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What one upload may have: pictures, bytes of all of them together, and seconds from its first to its last message."""

    pictures: int
    size_bytes: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Upload:
    """A conversation, and the files that it refers to by number, not looked at. `size_bytes` of a share are taken for it."""

    conversation: chat_pb2.ChatRequest
    files: tuple[bytes, ...]
    size_bytes: int


async def receive(messages: AsyncIterator[UploadT], limits: UploadLimits, share: Share) -> Upload:
    """The upload, complete with its conversation; what might follow that is not read.

    A refusal is raised only when the client has said everything, within limits: one that still sends may not hear why it is
    refused. Raises RpcFault (INVALID_ARGUMENT naming the field, DEADLINE_EXCEEDED), and RoomFull.
    """
    try:
        async with asyncio.timeout(limits.time_s):
            try:
                return await _receive(messages, limits, share)
            except (RpcFault, RoomFull):
                await _hear_out(messages, limits)
                raise
    except TimeoutError:
        raise too_slow(limits.time_s) from None


async def _receive(messages: AsyncIterator[UploadT], limits: UploadLimits, share: Share) -> Upload:
    files = _Files(limits)
    async for message in messages:
        match message.WhichOneof("message"):
            case "image_chunk":
                files.take(message.image_chunk, share)
            case "conversation":
                share.take(message.ByteSize())
                size_bytes = files.size_bytes + message.ByteSize()
                return Upload(message.conversation, files.whole(), size_bytes)
            case _:
                raise invalid("message", "Each message carries a piece of a picture or the conversation.")
    raise invalid("conversation", "The conversation is missing; it comes after the pictures.")


async def _hear_out(messages: AsyncIterator[UploadT], limits: UploadLimits) -> None:
    heard_bytes = 0
    async for message in messages:
        heard_bytes += message.ByteSize()
        if message.WhichOneof("message") == "conversation" or heard_bytes > limits.size_bytes:
            return


class _Files:
    """The pictures of an upload, piece by piece."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._files: list[bytearray] = []
        self.size_bytes = 0

    def take(self, chunk: pb.ImageChunk, share: Share) -> None:
        """Adds the next piece. Raises RpcFault, RoomFull."""
        if len(chunk.data) > CHUNK_BYTES:
            raise invalid("image_chunk", f"A piece of a picture has at most {CHUNK_BYTES} bytes.")
        if chunk.index == len(self._files) < self._limits.pictures:
            self._files.append(bytearray())
        elif chunk.index == len(self._files):
            raise invalid("image_chunk", f"At most {self._limits.pictures} pictures can be uploaded.")
        elif chunk.index != len(self._files) - 1:
            raise invalid("image_chunk", "Pictures must come one after another, numbered from 0.")
        if self.size_bytes + len(chunk.data) > self._limits.size_bytes:
            most = self._limits.size_bytes
            raise invalid("image_chunk", f"The pictures of a request have at most {most} bytes together.")
        share.take(len(chunk.data))
        self.size_bytes += len(chunk.data)
        self._files[-1] += chunk.data

    def whole(self) -> tuple[bytes, ...]:
        """The files."""
        return tuple(bytes(file) for file in self._files)
