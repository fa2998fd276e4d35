"""Uploads of pictures over gRPC: taken in whole, since the conversation that says what is wanted comes last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc
from starlette.types import Scope
from trenza.chat.v1 import chat_pb2
from trenza.vision.v1 import vision_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch.calls import Upload
from trenza_gateway.limits import Bodies
from trenza_gateway.pictures.gathering import PictureLimits
from trenza_gateway.pictures.picture import PIECE_BYTES, EncodedPicture

RequestT = TypeVar("RequestT", vision_pb2.DescribeRequest, vision_pb2.CountTokensRequest)


@dataclass(frozen=True, slots=True)
class Pictured:
    """A conversation and the pictures that it shows by number."""

    conversation: chat_pb2.ChatRequest
    pictures: Sequence[EncodedPicture]

    @property
    def digests(self) -> list[bytes]:
        """What tells the pictures apart."""
        return [picture.digest for picture in self.pictures]

    def upload(self, kind: type[RequestT]) -> Upload[RequestT]:
        """The same upload for a replica, under whichever lease."""

        async def messages(lease_id: str) -> AsyncIterator[RequestT]:
            for index, picture in enumerate(self.pictures):
                for chunk in picture.chunks(index):
                    yield kind(image_chunk=chunk)
            self.conversation.context.lease_id = lease_id
            yield kind(conversation=self.conversation)

        return messages


class Incoming:
    """Takes uploads in. Their memory counts together with that of HTTP bodies."""

    def __init__(self, bodies: Bodies, limits: PictureLimits, read_s: float) -> None:
        self._bodies = bodies
        self._limits = limits
        self._read_s = read_s

    @contextmanager
    def held(self) -> Iterator[Scope]:
        """What one upload takes in memory, until the end of the block."""
        scope: Scope = {}
        try:
            yield scope
        finally:
            self._bodies.forget(scope)

    async def receive(self, requests: AsyncIterator[RequestT], held: Scope) -> Pictured:
        """A whole upload. Raises RpcFault (INVALID_ARGUMENT, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED)."""
        files = _Files(self._limits)
        try:
            async with asyncio.timeout(self._read_s):
                async for request in requests:
                    if not self._bodies.try_hold(held, request.ByteSize()):
                        raise _overloaded()
                    match request.WhichOneof("message"):
                        case "image_chunk":
                            files.take(request.image_chunk)
                        case "conversation":
                            return Pictured(request.conversation, files.pictures())
                        case _:
                            raise _invalid("message", "Each message carries a piece of a picture or the conversation.")
        except TimeoutError:
            message = f"The pictures were not uploaded within {self._read_s:g} s."
            raise RpcFault(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message) from None
        raise _invalid("conversation", "The conversation is missing; it comes after the pictures.")


class _File:
    """One picture as it grows, in pieces of full length however short those are in which it comes."""

    def __init__(self, media_type: str) -> None:
        self._media_type = media_type
        self._pieces: list[bytes] = []
        self._growing = bytearray()
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        self._growing += data
        self.size_bytes += len(data)
        if len(self._growing) >= PIECE_BYTES:
            self._pieces.append(bytes(self._growing[:PIECE_BYTES]))
            del self._growing[:PIECE_BYTES]

    def picture(self) -> EncodedPicture:
        last = [bytes(self._growing)] if self._growing else []
        return EncodedPicture.of([*self._pieces, *last], self._media_type)


class _Files:
    """The pictures of an upload, within limits."""

    def __init__(self, limits: PictureLimits) -> None:
        self._limits = limits
        self._files: list[_File] = []
        self._size_bytes = 0

    def take(self, chunk: vision_pb2.ImageChunk) -> None:
        limits = self._limits
        if len(chunk.data) > PIECE_BYTES:
            raise _invalid("image_chunk", f"A piece of a picture has at most {PIECE_BYTES} bytes.")
        if chunk.index == len(self._files):
            if chunk.index == limits.count:
                raise _invalid("image_chunk", f"A request can show {limits.count} pictures at most.")
            self._files.append(_File(chunk.media.media_type))
        if not self._files or chunk.index != len(self._files) - 1:
            raise _invalid("image_chunk", "Pictures must come one after another, numbered from 0.")
        file = self._files[-1]
        file.add(chunk.data)
        self._size_bytes += len(chunk.data)
        if file.size_bytes > limits.picture_bytes:
            raise _invalid("image_chunk", f"A picture must be at most {limits.picture_bytes} bytes.")
        if self._size_bytes > limits.pictures_bytes:
            raise _invalid(
                "image_chunk", f"The pictures of a request must be at most {limits.pictures_bytes} bytes together."
            )

    def pictures(self) -> list[EncodedPicture]:
        found = [file.picture() for file in self._files]
        for number, picture in enumerate(found):
            if not picture.pieces:
                raise _invalid("image_chunk", f"Picture {number} is empty.")
        return found


def _invalid(param: str, message: str) -> RpcFault:
    return RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, {"param": param})


def _overloaded() -> RpcFault:
    message = "Too many large requests at once."
    return RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL, message, retry_after_s=1)
