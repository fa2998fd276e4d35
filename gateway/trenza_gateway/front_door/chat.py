"""ChatService for the whole fleet: each call is dispatched to a replica as an HTTP request would be."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from trenza.chat.v1 import chat_pb2, chat_pb2_grpc

from trenza_gateway import metrics
from trenza_gateway.dispatch.calls import chat_call, complete_call, count_tokens_call, embed_call
from trenza_gateway.dispatch.dispatcher import Dispatcher, MessageT, StartCall
from trenza_gateway.dispatch.intake.chat import ChatIntake
from trenza_gateway.dispatch.job import Job
from trenza_gateway.front_door.callers import Callers, Context
from trenza_gateway.front_door.single import only


class ChatFrontDoor(chat_pb2_grpc.ChatServiceServicer):
    """The servicer. Faults raised here become rich statuses in the server."""

    def __init__(self, callers: Callers, intake: ChatIntake, dispatcher: Dispatcher) -> None:
        self._callers = callers
        self._intake = intake
        self._dispatcher = dispatcher

    async def Chat(
        self, request: chat_pb2.ChatRequest, context: Context
    ) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
        """Answers a conversation."""
        self._callers.settle(context, request.context)
        job = self._intake.chat(request, context.time_remaining())
        async with aclosing(self._run(job, chat_call(request))) as messages:
            async for message in messages:
                yield message

    async def Complete(
        self, request: chat_pb2.CompleteRequest, context: Context
    ) -> AsyncGenerator[chat_pb2.CompleteResponse, None]:
        """Continues a text."""
        self._callers.settle(context, request.context)
        job = self._intake.completion(request, context.time_remaining())
        async with aclosing(self._run(job, complete_call(request))) as messages:
            async for message in messages:
                yield message

    async def Embed(self, request: chat_pb2.EmbedRequest, context: Context) -> chat_pb2.EmbedResponse:
        """Turns texts into vectors."""
        self._callers.settle(context, request.context)
        job = self._intake.embedding(request, context.time_remaining())
        return await only(self._run(job, embed_call(request)))

    async def CountTokens(self, request: chat_pb2.CountTokensRequest, context: Context) -> chat_pb2.CountTokensResponse:
        """Counts a conversation's tokens."""
        self._callers.settle(context, request.context)
        job = self._intake.token_count(request, context.time_remaining())
        return await only(self._run(job, count_tokens_call(request)))

    async def _run(self, job: Job, call: StartCall[MessageT]) -> AsyncGenerator[MessageT, None]:
        with metrics.IN_FLIGHT.labels("grpc").track_inprogress():
            async with aclosing(self._dispatcher.run(job, call)) as messages:
                async for message in messages:
                    yield message
