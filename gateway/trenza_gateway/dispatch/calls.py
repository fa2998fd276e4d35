"""The calls that the dispatcher can make on a replica: one of these for each RPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from trenza.audio.v1 import audio_pb2
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2
from trenza.vision.v1 import vision_pb2

from trenza_gateway.dispatch.core.leases import Lease
from trenza_gateway.dispatch.dispatcher import Metadata, StartCall
from trenza_gateway.dispatch.replicas import Replica

RequestT = TypeVar("RequestT", bound=Message)
AnswerT = TypeVar("AnswerT", bound=Message)

_UploadCall = grpc.aio.StreamStreamCall[RequestT, AnswerT] | grpc.aio.StreamUnaryCall[RequestT, AnswerT]

Upload = Callable[[str], AsyncIterator[RequestT]]
"""The messages of an upload under a lease of that id, from the first one; asked for anew by each attempt."""


class _Request(Protocol):
    @property
    def context(self) -> common_pb2.RequestContext: ...


def chat_call(request: chat_pb2.ChatRequest) -> StartCall[chat_pb2.ChatResponse]:
    """Calls Chat."""
    return _streaming(request, lambda replica: replica.chat.Chat)


def complete_call(request: chat_pb2.CompleteRequest) -> StartCall[chat_pb2.CompleteResponse]:
    """Calls Complete."""
    return _streaming(request, lambda replica: replica.chat.Complete)


def embed_call(request: chat_pb2.EmbedRequest) -> StartCall[chat_pb2.EmbedResponse]:
    """Calls Embed, whose answer is one message."""
    return _single(request, lambda replica: replica.chat.Embed)


def count_tokens_call(request: chat_pb2.CountTokensRequest) -> StartCall[chat_pb2.CountTokensResponse]:
    """Calls CountTokens, whose answer is one message."""
    return _single(request, lambda replica: replica.chat.CountTokens)


def generate_call(request: images_pb2.GenerateRequest) -> StartCall[images_pb2.GenerateResponse]:
    """Calls Generate."""
    return _streaming(request, lambda replica: replica.images.Generate)


def edit_call(upload: Upload[images_pb2.EditRequest]) -> StartCall[images_pb2.EditResponse]:
    """Calls Edit."""
    return _uploading(upload, lambda replica: replica.images.Edit)


def vary_call(upload: Upload[images_pb2.VaryRequest]) -> StartCall[images_pb2.VaryResponse]:
    """Calls Vary."""
    return _uploading(upload, lambda replica: replica.images.Vary)


def describe_call(upload: Upload[vision_pb2.DescribeRequest]) -> StartCall[vision_pb2.DescribeResponse]:
    """Calls Describe."""
    return _uploading(upload, lambda replica: replica.vision.Describe)


def count_pictured_tokens_call(
    upload: Upload[vision_pb2.CountTokensRequest],
) -> StartCall[vision_pb2.CountTokensResponse]:
    """Calls the vision service's CountTokens, whose answer is one message."""
    return _uploading(upload, lambda replica: replica.vision.CountTokens, _only)


def transcribe_call(upload: Upload[audio_pb2.TranscribeRequest]) -> StartCall[audio_pb2.TranscribeResponse]:
    """Calls Transcribe."""
    return _uploading(upload, lambda replica: replica.audio.Transcribe)


def translate_call(upload: Upload[audio_pb2.TranslateRequest]) -> StartCall[audio_pb2.TranslateResponse]:
    """Calls Translate."""
    return _uploading(upload, lambda replica: replica.audio.Translate)


def speak_call(request: audio_pb2.SpeakRequest) -> StartCall[audio_pb2.SpeakResponse]:
    """Calls Speak."""
    return _streaming(request, lambda replica: replica.audio.Speak)


def list_voices_call(request: audio_pb2.ListVoicesRequest) -> StartCall[audio_pb2.ListVoicesResponse]:
    """Calls ListVoices, whose answer is one message."""
    return _single(request, lambda replica: replica.audio.ListVoices)


def _streaming(
    request: _Request, method: Callable[[Replica], Callable[..., grpc.aio.UnaryStreamCall[RequestT, AnswerT]]]
) -> StartCall[AnswerT]:
    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[AnswerT, None]:
        request.context.lease_id = lease.lease_id
        call = method(replica)(request, timeout=limit_s, metadata=metadata)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    return start


def _single(
    request: _Request, method: Callable[[Replica], Callable[..., grpc.aio.UnaryUnaryCall[RequestT, AnswerT]]]
) -> StartCall[AnswerT]:
    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[AnswerT, None]:
        request.context.lease_id = lease.lease_id
        call = method(replica)(request, timeout=limit_s, metadata=metadata)
        try:
            yield await call
        finally:
            call.cancel()

    return start


async def _each(call: Any) -> AsyncGenerator[Any, None]:
    """The messages of a call that answers with several."""
    async for message in call:
        yield message


async def _only(call: Any) -> AsyncGenerator[Any, None]:
    """The message of a call that answers with one."""
    yield await call


def _uploading(
    upload: Upload[RequestT],
    method: Callable[[Replica], Callable[..., _UploadCall[RequestT, AnswerT]]],
    answers: Callable[[_UploadCall[RequestT, AnswerT]], AsyncGenerator[AnswerT, None]] = _each,
) -> StartCall[AnswerT]:
    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[AnswerT, None]:
        requests = upload(lease.lease_id)
        call = method(replica)(timeout=limit_s, metadata=metadata)
        sending = asyncio.ensure_future(_send(call, requests))

        def stop_sending(_call: object) -> None:
            # gRPC takes a write that fails because the call has ended for the call's own failure, and forgets its true status.
            sending.cancel()

        def stop_calling(_sending: object) -> None:
            if _failure(sending):
                call.cancel()

        call.add_done_callback(stop_sending)
        sending.add_done_callback(stop_calling)
        try:
            async with aclosing(answers(call)) as messages:
                async for message in messages:
                    yield message
        except asyncio.CancelledError:
            if failure := _failure(sending):
                raise failure from None
            raise
        finally:
            call.cancel()
            sending.cancel()

    return start


async def _send(call: _UploadCall[RequestT, AnswerT], requests: AsyncIterator[RequestT]) -> None:
    """Writes the requests as fast as the replica takes them. That the call ends meanwhile is for its reader to find out."""
    async for request in requests:
        try:
            await call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return
    await call.done_writing()


def _failure(sending: asyncio.Future[None]) -> BaseException | None:
    """Why the upload itself could not be read on, None where it could."""
    return sending.exception() if sending.done() and not sending.cancelled() else None
