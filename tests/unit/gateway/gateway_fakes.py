"""Chat replicas that do as they are told, and a gateway in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
from fleet_fakes import FakeServer, Fleet, running_fleet
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import RpcFault

MODEL = "starter-chat"

Script = Callable[[chat_pb2.ChatRequest, Any], AsyncIterator[chat_pb2.ChatResponse]]
CompleteScript = Callable[[chat_pb2.CompleteRequest, Any], AsyncIterator[chat_pb2.CompleteResponse]]


def text(content: str, choice: int = 0) -> chat_pb2.ChatResponse:
    """A message with one piece of text."""
    return chat_pb2.ChatResponse(
        deltas=[chat_pb2.ChatDelta(choice=choice, content=content, token_count=1)], fingerprint="fp_fake"
    )


def end(choices: int = 1, completion_tokens: int = 3) -> chat_pb2.ChatResponse:
    """The last message."""
    return chat_pb2.ChatResponse(
        deltas=[
            chat_pb2.ChatDelta(choice=choice, finish_reason=chat_pb2.FINISH_REASON_STOP) for choice in range(choices)
        ],
        usage=common_pb2.TokenUsage(prompt_tokens=10, cached_tokens=4, completion_tokens=completion_tokens),
    )


async def parrot(request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
    """Repeats the last message word by word in every choice."""
    choices = max(1, request.options.choices)
    said = request.messages[-1].content[0].text
    for index, word in enumerate(said.split(" ")):
        for choice in range(choices):
            yield text(word if index == 0 else f" {word}", choice)
    yield end(choices)


def failing(fault: RpcFault, after: int = 0) -> Script:
    """Fails with a fault after so many messages."""

    async def script(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        for number in range(after):
            yield text(f"word{number} ")
        raise fault

    return script


def in_turn(*scripts: Script) -> Script:
    """The first call follows the first script, and so on; the last one is kept."""
    left = list(scripts)

    async def script(request: chat_pb2.ChatRequest, context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        async for message in chosen(request, context):
            yield message

    return script


async def go_on(request: chat_pb2.CompleteRequest, _context: Any) -> AsyncIterator[chat_pb2.CompleteResponse]:
    """Continues every text with " and on"."""
    choices = max(1, request.options.choices)
    for choice in range(choices):
        words = ([request.text] if request.echo else []) + [" and", " on"]
        for word in words:
            logprobs = []
            if request.options.HasField("top_logprobs"):
                top = [chat_pb2.TopLogprob(token=word, token_bytes=word.encode(), logprob=-0.25)]
                logprobs = [chat_pb2.TokenLogprob(token=word, token_bytes=word.encode(), logprob=-0.25, top=top)]
            delta = chat_pb2.CompleteDelta(choice=choice, text=word, token_count=1, logprobs=logprobs)
            yield chat_pb2.CompleteResponse(deltas=[delta], fingerprint="fp_fake")
    reason = chat_pb2.FINISH_REASON_LENGTH
    yield chat_pb2.CompleteResponse(
        deltas=[chat_pb2.CompleteDelta(choice=choice, finish_reason=reason) for choice in range(choices)],
        usage=common_pb2.TokenUsage(prompt_tokens=2, completion_tokens=2 * choices),
    )


class FakeReplica(FakeServer, chat_pb2_grpc.ChatServiceServicer):
    """A chat replica that follows a script."""

    SERVICE = "trenza.chat.v1.ChatService"
    MODALITY = common_pb2.MODALITY_CHAT

    def __init__(self, replica_id: str, script: Script = parrot) -> None:
        super().__init__(replica_id)
        self.script = script
        self.complete_script: CompleteScript = go_on
        self.requests: list[Any] = []
        self.deadlines_s: list[float] = []
        self.slots = 4

    def add_to(self, server: grpc.aio.Server) -> None:
        chat_pb2_grpc.add_ChatServiceServicer_to_server(self, server)

    @property
    def models(self) -> list[common_pb2.Model]:
        model = common_pb2.Model(
            name=MODEL,
            modality=common_pb2.MODALITY_CHAT,
            capabilities=[common_pb2.CAPABILITY_CHAT, common_pb2.CAPABILITY_COMPLETION],
            description="Small talk.",
            created_unix_s=1_700_000_000,
            owned_by="trenza",
            context_length=512,
            load_state=common_pb2.LOAD_STATE_LOADED,
            slots=self.slots,
        )
        return [model]

    async def Chat(self, request: chat_pb2.ChatRequest, context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        self._note(request, context)
        with self.counted():
            async for message in self.script(request, context):
                yield message

    async def Complete(
        self, request: chat_pb2.CompleteRequest, context: Any
    ) -> AsyncIterator[chat_pb2.CompleteResponse]:
        self._note(request, context)
        with self.counted():
            async for message in self.complete_script(request, context):
                yield message

    async def CountTokens(self, request: chat_pb2.CountTokensRequest, context: Any) -> chat_pb2.CountTokensResponse:
        self._note(request, context)
        return chat_pb2.CountTokensResponse(prompt_tokens=len(request.messages), context_length=512)

    async def Embed(self, request: chat_pb2.EmbedRequest, context: Any) -> chat_pb2.EmbedResponse:
        self._note(request, context)
        return chat_pb2.EmbedResponse(embeddings=[chat_pb2.Embedding(values=[1.0])])

    def _note(self, request: Any, context: Any) -> None:
        kept = type(request)()
        kept.CopyFrom(request)
        self.requests.append(kept)
        self.metadata.append(dict(context.invocation_metadata()))
        self.deadlines_s.append(context.time_remaining())


class FakeFleet(Fleet[FakeReplica]):
    """A gateway with a fake scheduler and fake chat replicas behind it."""

    async def chat(self, content: str = "hello there", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json=chat_body(content, **fields))


def chat_body(content: str = "hello there", **fields: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


@asynccontextmanager
async def fake_fleet(replicas: int = 1, ready: bool = True, **settings: Any) -> AsyncIterator[FakeFleet]:
    """A running fleet."""
    chats = [FakeReplica(f"chat-{number}") for number in range(replicas)]
    async with running_fleet(FakeFleet, chats, ready, **settings) as fleet:
        yield fleet
