"""Uploads over gRPC: the configuration comes first, the rest is passed on as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import grpc
from trenza.audio.v1 import audio_pb2
from trenza.images.v1 import images_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch.calls import Upload
from trenza_gateway.dispatch.replay import Replay

RequestT = TypeVar(
    "RequestT",
    audio_pb2.TranscribeRequest,
    audio_pb2.TranslateRequest,
    images_pb2.EditRequest,
    images_pb2.VaryRequest,
)


async def configuration(requests: AsyncIterator[RequestT]) -> RequestT:
    """The first message, which is the configuration. Raises RpcFault (INVALID_ARGUMENT) where it is something else."""
    first = await anext(requests, None)
    if first is None or first.WhichOneof("message") != "config":
        message = "The first message of an upload must be its configuration."
        raise RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, {"param": "config"})
    return first


def upload(first: RequestT, rest: AsyncIterator[RequestT]) -> Upload[RequestT]:
    """The upload that begins with `first`, under whichever lease."""
    replay = Replay(rest)

    def begin(lease_id: str) -> AsyncIterator[RequestT]:
        first.config.context.lease_id = lease_id
        return _chained(first, replay.messages())

    return begin


async def _chained(first: RequestT, rest: AsyncIterator[RequestT]) -> AsyncIterator[RequestT]:
    yield first
    async for message in rest:
        yield message
