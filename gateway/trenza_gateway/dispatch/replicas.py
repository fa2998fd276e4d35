"""Channels to replicas: one for each, opened on first use and anew when certificates are, closed when gone and idle."""

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
from trenza_runtime.rpc.peers import modality_role
from trenza_runtime.rpc.tls import Transport


@dataclass(slots=True)
class Replica:
    """A replica that can be called. It serves one of these APIs; a stub costs nothing until it is used."""

    channel: grpc.aio.Channel
    chat: chat_pb2_grpc.ChatServiceAsyncStub
    audio: audio_pb2_grpc.AudioServiceAsyncStub
    images: images_pb2_grpc.ImagesServiceAsyncStub
    vision: vision_pb2_grpc.VisionServiceAsyncStub
    generation: int
    calls: int = 0
    gone: bool = False


class Replicas:
    """The channels in use."""

    def __init__(self, transport: Transport | None = None) -> None:
        """Without a transport, replicas are called in the clear."""
        self._transport = transport or Transport()
        self._open: dict[tuple[str, str], Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def at(self, address: str, modality: int) -> Iterator[Replica]:
        """The replica of a modality at an address, kept open while in use."""
        # An address can pass from one modality to another, and each must be known for what it is.
        replica = self._newest((address, modality_role(modality)))
        replica.calls += 1
        try:
            yield replica
        finally:
            replica.calls -= 1
            if replica.gone and replica.calls == 0:
                self._close(replica)

    def keep(self, addresses: Collection[str]) -> None:
        """Closes the channels to all other addresses, those with running calls once these have ended."""
        for place in [known for known in self._open if known[0] not in addresses]:
            self._retire(self._open.pop(place))

    def _newest(self, place: tuple[str, str]) -> Replica:
        """The open channel to a place, unless it shows a certificate that has been renewed: then another."""
        generation = self._transport.generation
        replica = self._open.get(place)
        if replica is None or replica.generation != generation:
            if replica is not None:
                self._retire(replica)
            replica = self._open[place] = _replica(self._transport.open_channel(*place), generation)
        return replica

    def _retire(self, replica: Replica) -> None:
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


def _replica(channel: grpc.aio.Channel, generation: int) -> Replica:
    chat: chat_pb2_grpc.ChatServiceAsyncStub = chat_pb2_grpc.ChatServiceStub(channel)
    audio: audio_pb2_grpc.AudioServiceAsyncStub = audio_pb2_grpc.AudioServiceStub(channel)
    images: images_pb2_grpc.ImagesServiceAsyncStub = images_pb2_grpc.ImagesServiceStub(channel)
    vision: vision_pb2_grpc.VisionServiceAsyncStub = vision_pb2_grpc.VisionServiceStub(channel)
    return Replica(channel, chat, audio, images, vision, generation)
