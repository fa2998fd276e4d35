"""A real gRPC server around the speaking part, and what tests do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from trenza.audio.v1 import audio_pb2 as pb
from trenza.audio.v1 import audio_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_audio.speaking import engine
from trenza_audio.speaking.servicer import Speaking
from trenza_runtime.errors import RpcFault, from_rpc_error
from trenza_runtime.models.host import HostLimits, ModelHost
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcServer, RpcService

LIMIT_S = 150.0
"""A Bark's worker imports torch first, which takes long where others compute beside it."""


class _Servicer(audio_pb2_grpc.AudioServiceServicer):
    def __init__(self, speaking: Speaking) -> None:
        self._speaking = speaking

    async def Speak(self, request: pb.SpeakRequest, context: Any) -> AsyncIterator[pb.SpeakResponse]:
        async for response in self._speaking.Speak(request, context):
            yield response

    async def ListVoices(self, request: pb.ListVoicesRequest, context: Any) -> pb.ListVoicesResponse:
        return await self._speaking.ListVoices(request, context)


@dataclass
class Talking:
    """A client, and the host behind the server for those who look inside."""

    stub: Any
    host: ModelHost

    async def speak(self, text: str = "One green star.", model: str = "voice", **fields: Any) -> list[pb.SpeakResponse]:
        return [response async for response in self.stub.Speak(request(text, model, **fields), timeout=LIMIT_S)]

    async def pcm(self, text: str = "One green star.", model: str = "voice", **fields: Any) -> bytes:
        responses = await self.speak(text, model, **{"format": pb.AUDIO_FORMAT_PCM, **fields})
        return sound(responses)

    async def fault(self, text: str = "One green star.", model: str = "voice", **fields: Any) -> RpcFault:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.speak(text, model, **fields)
        return from_rpc_error(caught.value)

    async def voices(self, model: str = "", language: str = "") -> list[pb.Voice]:
        asked = pb.ListVoicesRequest(context=common_pb2.RequestContext(model=model), language=language)
        return list((await self.stub.ListVoices(asked, timeout=LIMIT_S)).voices)


def request(text: str, model: str = "voice", **fields: Any) -> pb.SpeakRequest:
    return pb.SpeakRequest(context=common_pb2.RequestContext(model=model, request_id="test"), input=text, **fields)


def sound(responses: list[pb.SpeakResponse]) -> bytes:
    return b"".join(response.chunk for response in responses)


def kinds(responses: list[pb.SpeakResponse]) -> list[str]:
    return [str(response.WhichOneof("event")) for response in responses]


@asynccontextmanager
async def talking(models: Path, request_limit_s: float = LIMIT_S, queue_limit: int = 1) -> AsyncIterator[Talking]:
    """Serves the models of a folder until the block is left."""

    def spec_for(manifest: ModelManifest) -> tuple[str, Any]:
        spec = engine.spec_for(manifest, slots=manifest.slots or 2, threads=1, device="cpu")
        return f"trenza_audio.engines.{manifest.engine}:load", spec

    registry = ModelRegistry(models, common_pb2.MODALITY_AUDIO)
    host = ModelHost(registry, spec_for, HostLimits(queue_limit=queue_limit))
    servicer = _Servicer(Speaking(host, request_limit_s))
    service = RpcService(
        "trenza.audio.v1.AudioService",
        lambda server: audio_pb2_grpc.add_AudioServiceServicer_to_server(servicer, server),
    )
    server = RpcServer("127.0.0.1", 0, [service])
    channel = open_channel(f"127.0.0.1:{await server.start()}")
    try:
        yield Talking(audio_pb2_grpc.AudioServiceStub(channel), host)
    finally:
        await channel.close()
        await server.drain(0)
        await host.stop(5)
