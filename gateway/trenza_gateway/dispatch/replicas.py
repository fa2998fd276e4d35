"""Channels to replicas: one for each address, opened on first use, closed when the replica is gone and idle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import grpc
from trenza.audio.v1 import audio_pb2_grpc
from trenza.chat.v1 import chat_pb2_grpc
from trenza.images.v1 import images_pb2_grpc
from trenza.vision.v1 import vision_pb2_grpc
from trenza_runtime.rpc.channel import open_channel


@dataclass(slots=True)
class Replica:
    """A replica that can be called. It serves one of these APIs; a stub costs nothing until it is used."""

    channel: grpc.aio.Channel
    chat: chat_pb2_grpc.ChatServiceAsyncStub
    audio: audio_pb2_grpc.AudioServiceAsyncStub
    images: images_pb2_grpc.ImagesServiceAsyncStub
    vision: vision_pb2_grpc.VisionServiceAsyncStub
    calls: int = 0
    gone: bool = False


class Replicas:
    """The channels in use."""

    def __init__(self) -> None:
        self._by_address: dict[str, Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def at(self, address: str) -> Iterator[Replica]:
        """The replica at an address, kept open while in use."""
        replica = self._by_address.get(address)
        if replica is None:
            replica = self._by_address[address] = _open(address)
        replica.calls += 1
        try:
            yield replica
        finally:
            replica.calls -= 1
            if replica.gone and replica.calls == 0:
                self._close(replica)

    def keep(self, addresses: Collection[str]) -> None:
        """Closes the channels to all other addresses, those with running calls once these have ended."""
        for address in [known for known in self._by_address if known not in addresses]:
            replica = self._by_address.pop(address)
            replica.gone = True
            if replica.calls == 0:
                self._close(replica)

    async def close(self) -> None:
        """Closes every channel."""
        self.keep(())
        if self._closing:
            await asyncio.wait(self._closing)

    def _close(self, replica: Replica) -> None:
        task = asyncio.ensure_future(replica.channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _open(address: str) -> Replica:
    channel = open_channel(address)
    chat: chat_pb2_grpc.ChatServiceAsyncStub = chat_pb2_grpc.ChatServiceStub(channel)
    audio: audio_pb2_grpc.AudioServiceAsyncStub = audio_pb2_grpc.AudioServiceStub(channel)
    images: images_pb2_grpc.ImagesServiceAsyncStub = images_pb2_grpc.ImagesServiceStub(channel)
    vision: vision_pb2_grpc.VisionServiceAsyncStub = vision_pb2_grpc.VisionServiceStub(channel)
    return Replica(channel, chat, audio, images, vision)
