"""The chat API on top of a host of models: proto in, engine events out, nothing else."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from trenza.chat.v1 import chat_pb2 as pb
from trenza.chat.v1 import chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_llama import engine as llama
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.models.host import LoadedModel, ModelHost
from trenza_runtime.rpc.deadline import time_limit

from trenza_chat import metrics, translate

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class _Running:
    """A request that has its slots: what comes of it, and how long it waited for them."""

    events: AsyncIterator[list[tuple[int, object]]]
    answer: translate.Answer
    queued_s: float


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Serves `trenza.chat.v1.ChatService`, embeddings left out.

    `request_limit_s` bounds the time of a call whose deadline is later or missing.
    """

    def __init__(self, host: ModelHost, request_limit_s: float) -> None:
        self._host = host
        self._request_limit_s = request_limit_s
        self._numbers = itertools.count()

    async def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.ChatResponse]:
        async with self._model(request.context, context) as model:
            choices = translate.chat_choices(request, model.manifest.defaults)
            async with self._run(model, choices, request.context) as running:
                async for events in running.events:
                    response = running.answer.chat_response(events)
                    if response is not None:
                        yield response
            usage, timings = running.answer.usage(), running.answer.timings(running.queued_s)
            metrics.count(model.name, usage)
            yield pb.ChatResponse(usage=usage, timings=timings)

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> AsyncIterator[pb.CompleteResponse]:
        async with self._model(request.context, context) as model:
            choices = translate.complete_choices(request, model.manifest.defaults)
            async with self._run(model, choices, request.context) as running:
                async for events in running.events:
                    response = running.answer.complete_response(events)
                    if response is not None:
                        yield response
            usage, timings = running.answer.usage(), running.answer.timings(running.queued_s)
            metrics.count(model.name, usage)
            yield pb.CompleteResponse(usage=usage, timings=timings)

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        async with self._model(request.context, context) as model:
            async with model.worker.open({self._name(request.context): translate.count_request(request)}) as stream:
                ((_, counted),) = await anext(stream)
            assert isinstance(counted, llama.Counted)
            length = int(model.facts.properties["context_length"])
            return pb.CountTokensResponse(prompt_tokens=counted.prompt_tokens, context_length=length)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        raise RpcFault(grpc.StatusCode.UNIMPLEMENTED, Reason.UNSUPPORTED, "This service makes no embeddings.")

    @asynccontextmanager
    async def _model(self, asked: common_pb2.RequestContext, context: Context) -> AsyncIterator[LoadedModel]:
        """The model that is asked for, loaded, for as long as the call may take."""
        if not asked.model:
            raise translate.invalid("model", "The request names no model.")
        async with (
            time_limit(context, self._request_limit_s) as limit_s,
            self._host.use(asked.model, limit_s) as model,
        ):
            yield model

    @asynccontextmanager
    async def _run(
        self, model: LoadedModel, requests: Sequence[llama.GenerateRequest], asked: common_pb2.RequestContext
    ) -> AsyncIterator[_Running]:
        """Takes a slot for each choice and runs them; leaving the block cancels what has not ended."""
        if len(requests) > model.facts.slots:
            raise translate.invalid("n", f"This model runs {model.facts.slots} choices together at most.")
        base = self._name(asked)
        by_name = {f"{base}/{choice}": request for choice, request in enumerate(requests)}
        choice_of = {name: choice for choice, name in enumerate(by_name)}
        async with model.gate.place(asked.priority, len(requests)) as queued_s, model.worker.open(by_name) as stream:

            async def events() -> AsyncIterator[list[tuple[int, object]]]:
                async for batch in stream:
                    yield [(choice_of[name], event) for name, event in batch]

            yield _Running(events(), translate.Answer(model.fingerprint), queued_s)

    def _name(self, asked: common_pb2.RequestContext) -> str:
        """A name for the worker that is unique even where two clients chose the same request id."""
        return f"{asked.request_id}#{next(self._numbers)}"
