"""The calls that the dispatcher can make on a chat replica."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc
from trenza.chat.v1 import chat_pb2

from trenza_gateway.dispatch.core.leases import Lease
from trenza_gateway.dispatch.dispatcher import Metadata, StartCall
from trenza_gateway.dispatch.replicas import Replica


def chat_call(request: chat_pb2.ChatRequest) -> StartCall[chat_pb2.ChatResponse]:
    """Calls Chat."""

    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
        request.context.lease_id = lease.lease_id
        call = replica.chat.Chat(request, timeout=limit_s, metadata=metadata)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    return start


def complete_call(request: chat_pb2.CompleteRequest) -> StartCall[chat_pb2.CompleteResponse]:
    """Calls Complete."""

    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[chat_pb2.CompleteResponse, None]:
        request.context.lease_id = lease.lease_id
        call = replica.chat.Complete(request, timeout=limit_s, metadata=metadata)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    return start


def embed_call(request: chat_pb2.EmbedRequest) -> StartCall[chat_pb2.EmbedResponse]:
    """Calls Embed, whose answer is one message."""

    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[chat_pb2.EmbedResponse, None]:
        request.context.lease_id = lease.lease_id
        call: grpc.aio.UnaryUnaryCall[chat_pb2.EmbedRequest, chat_pb2.EmbedResponse]
        call = replica.chat.Embed(request, timeout=limit_s, metadata=metadata)
        try:
            yield await call
        finally:
            call.cancel()

    return start


def count_tokens_call(request: chat_pb2.CountTokensRequest) -> StartCall[chat_pb2.CountTokensResponse]:
    """Calls CountTokens, whose answer is one message."""

    async def start(
        replica: Replica, lease: Lease, limit_s: float, metadata: Metadata
    ) -> AsyncGenerator[chat_pb2.CountTokensResponse, None]:
        request.context.lease_id = lease.lease_id
        call: grpc.aio.UnaryUnaryCall[chat_pb2.CountTokensRequest, chat_pb2.CountTokensResponse]
        call = replica.chat.CountTokens(request, timeout=limit_s, metadata=metadata)
        try:
            yield await call
        finally:
            call.cancel()

    return start
