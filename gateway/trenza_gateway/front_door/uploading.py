"""Uploads over gRPC: the configuration comes first, the rest is passed on as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message
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

MessageT = TypeVar("MessageT", bound=Message)

COURTESY_S = 1.0
COURTESY_MESSAGES = 64
"""How long and how much of its upload a caller who is refused may still send."""


@asynccontextmanager
async def heard_out(requests: AsyncIterator[MessageT]) -> AsyncIterator[AsyncIterator[MessageT]]:
    """The requests, for use inside; a caller who is refused there may send on for a while before it is told.

    Many clients take an end in mid-sentence for a broken connection, and never see the reason.
    """
    shared = _Shared(requests)
    try:
        yield shared
    except RpcFault as fault:
        if fault.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            with suppress(TimeoutError):
                async with asyncio.timeout(COURTESY_S):
                    for _ in range(COURTESY_MESSAGES):
                        if await anext(shared, None) is None:
                            break
        raise


class _Shared(Generic[MessageT]):
    """Requests that several may ask for at the same time; each goes to one of them."""

    def __init__(self, requests: AsyncIterator[MessageT]) -> None:
        self._requests: AsyncIterator[MessageT] = aiter(requests)
        self._asking = asyncio.Lock()

    def __aiter__(self) -> AsyncIterator[MessageT]:
        return self

    async def __anext__(self) -> MessageT:
        async with self._asking:
            return await anext(self._requests)


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
