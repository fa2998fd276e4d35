"""The chat API on top of a host of models: proto in, engine events out, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from trenza.chat.v1 import chat_pb2 as pb
from trenza.chat.v1 import chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_llama.api.calls import Calls
from trenza_llama.api.requests import chat_choices, complete_choices, count_request
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.models.host import LoadedModel, ModelHost
from trenza_runtime.rpc.deadline import time_limit

from trenza_chat import metrics

Context = grpc.aio.ServicerContext[Any, Any]


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Serves `trenza.chat.v1.ChatService`, embeddings left out.

    `request_limit_s` bounds the time of a call whose deadline is later or missing.
    """

    def __init__(self, host: ModelHost, request_limit_s: float) -> None:
        self._calls = Calls(host)
        self._request_limit_s = request_limit_s

    async def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.ChatResponse]:
        async with self._model(request.context, context) as model:
            choices = chat_choices(request, model.manifest.defaults)
            async with self._calls.run(model, choices, request.context) as running:
                async for events in running.events:
                    response = running.answer.chat_response(events)
                    if response is not None:
                        yield response
            usage, timings = running.answer.usage(), running.answer.timings(running.queued_s)
            metrics.count(model.name, usage)
            yield pb.ChatResponse(usage=usage, timings=timings)

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> AsyncIterator[pb.CompleteResponse]:
        async with self._model(request.context, context) as model:
            choices = complete_choices(request, model.manifest.defaults)
            async with self._calls.run(model, choices, request.context) as running:
                async for events in running.events:
                    response = running.answer.complete_response(events)
                    if response is not None:
                        yield response
            usage, timings = running.answer.usage(), running.answer.timings(running.queued_s)
            metrics.count(model.name, usage)
            yield pb.CompleteResponse(usage=usage, timings=timings)

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        async with self._model(request.context, context) as model:
            counted = await self._calls.count(model, count_request(request.messages), request.context)
            length = int(model.facts.properties["context_length"])
            return pb.CountTokensResponse(prompt_tokens=counted.prompt_tokens, context_length=length)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        raise RpcFault(grpc.StatusCode.UNIMPLEMENTED, Reason.UNSUPPORTED, "This service makes no embeddings.")

    @asynccontextmanager
    async def _model(self, asked: common_pb2.RequestContext, context: Context) -> AsyncIterator[LoadedModel]:
        """The model that is asked for, loaded, for as long as the call may take."""
        async with (
            time_limit(context, self._request_limit_s) as limit_s,
            self._calls.model(asked, limit_s) as model,
        ):
            yield model
