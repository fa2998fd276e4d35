"""Vision replicas that do as they are told, and a gateway in front of them and of a chat replica."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from fleet_fakes import FakeServer, Fleet, running_fleet
from gateway_fakes import FakeReplica
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2, vision_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault

SEES = "starter-vision"
IMAGE_TOKENS = 7

CRASH = RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, "The engine crashed.")
NO_PICTURE = RpcFault(
    grpc.StatusCode.INVALID_ARGUMENT,
    Reason.PICTURE_INVALID,
    "The picture cannot be used.",
    {"param": "messages[0].content[1]"},
)


@dataclass
class Seen:
    """One upload as a replica received it."""

    conversation: chat_pb2.ChatRequest = field(default_factory=chat_pb2.ChatRequest)
    pictures: list[bytes] = field(default_factory=list)
    media: list[common_pb2.MediaDescription] = field(default_factory=list)
    largest_piece_bytes: int = 0


Script = Callable[[Seen], AsyncIterator[vision_pb2.DescribeResponse]]


def picture(name: str = "cat", size_bytes: int = 1000) -> bytes:
    """The bytes of a picture, of which no two are alike."""
    return (name.encode() + bytes(range(256)) * (size_bytes // 256 + 1))[:size_bytes]


def data_url(content: bytes, media_type: str = "image/png") -> str:
    """A picture within a URL."""
    return f"data:{media_type};base64,{b64encode(content).decode()}"


def said(content: str, choice: int = 0) -> vision_pb2.DescribeResponse:
    """A message with one piece of text."""
    top = [chat_pb2.TopLogprob(token=content, token_bytes=content.encode(), logprob=-0.25)]
    logprob = chat_pb2.TokenLogprob(token=content, token_bytes=content.encode(), logprob=-0.25, top=top)
    delta = chat_pb2.ChatDelta(choice=choice, content=content, token_count=1, logprobs=[logprob])
    return vision_pb2.DescribeResponse(answer=chat_pb2.ChatResponse(deltas=[delta], fingerprint="fp_eye"))


def end(seen: Seen) -> list[vision_pb2.DescribeResponse]:
    """The last messages."""
    choices = max(1, seen.conversation.options.choices)
    reason = chat_pb2.FINISH_REASON_STOP
    deltas = [chat_pb2.ChatDelta(choice=choice, finish_reason=reason) for choice in range(choices)]
    image_tokens = IMAGE_TOKENS * len(shown(seen.conversation))
    usage = common_pb2.TokenUsage(
        prompt_tokens=10 + image_tokens, cached_tokens=4, completion_tokens=3, image_tokens=image_tokens
    )
    return [
        vision_pb2.DescribeResponse(answer=chat_pb2.ChatResponse(deltas=deltas)),
        vision_pb2.DescribeResponse(answer=chat_pb2.ChatResponse(usage=usage)),
    ]


def shown(conversation: chat_pb2.ChatRequest) -> list[chat_pb2.ImagePart]:
    """The pictures that a conversation shows."""
    return [part.image for message in conversation.messages for part in message.content if part.HasField("image")]


async def describes(seen: Seen) -> AsyncIterator[vision_pb2.DescribeResponse]:
    """Looks at each picture, then says how long they are, in order."""
    for number, _ in enumerate(seen.pictures):
        progress = common_pb2.Progress(fraction=1, step=number + 1, steps=len(seen.pictures))
        yield vision_pb2.DescribeResponse(encoding=progress)
    lengths = [len(seen.pictures[image.upload_index]) for image in shown(seen.conversation)]
    for choice in range(max(1, seen.conversation.options.choices)):
        yield said(" I see", choice)
        yield said(f" {lengths}", choice)
    for message in end(seen):
        yield message


def failing(fault: RpcFault, after: int = 0) -> Script:
    """Fails with a fault after so many messages."""

    async def script(seen: Seen) -> AsyncIterator[vision_pb2.DescribeResponse]:
        left = after
        async for message in describes(seen):
            if left == 0:
                raise fault
            left -= 1
            yield message

    return script


class FakeVisionReplica(FakeServer, vision_pb2_grpc.VisionServiceServicer):
    """A vision replica that follows its script."""

    SERVICE = "trenza.vision.v1.VisionService"
    MODALITY = common_pb2.MODALITY_VISION

    def __init__(self, replica_id: str = "vision-0", script: Script = describes) -> None:
        super().__init__(replica_id)
        self.script = script
        self.refusal: RpcFault | None = None
        self.seen: list[Seen] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        vision_pb2_grpc.add_VisionServiceServicer_to_server(self, server)

    async def Describe(self, requests: Any, context: Any) -> AsyncIterator[vision_pb2.DescribeResponse]:
        self.metadata.append(dict(context.invocation_metadata()))
        with self.counted():
            if self.refusal is not None:
                raise self.refusal
            seen = await self._take_in(requests)
            async for message in self.script(seen):
                yield message

    async def CountTokens(self, requests: Any, context: Any) -> vision_pb2.CountTokensResponse:
        self.metadata.append(dict(context.invocation_metadata()))
        seen = await self._take_in(requests)
        image_tokens = IMAGE_TOKENS * len(seen.pictures)
        return vision_pb2.CountTokensResponse(
            prompt_tokens=10 + image_tokens, image_tokens=image_tokens, context_length=512
        )

    async def _take_in(self, requests: Any) -> Seen:
        seen = Seen()
        self.seen.append(seen)
        async for request in requests:
            if request.WhichOneof("message") == "conversation":
                seen.conversation = request.conversation
                return seen
            chunk = request.image_chunk
            if chunk.index == len(seen.pictures):
                seen.pictures.append(b"")
                seen.media.append(chunk.media)
            else:
                assert chunk.index == len(seen.pictures) - 1
                assert not chunk.HasField("media")
            seen.pictures[-1] += chunk.data
            seen.largest_piece_bytes = max(seen.largest_piece_bytes, len(chunk.data))
        raise AssertionError("no conversation")

    @property
    def models(self) -> list[common_pb2.Model]:
        model = common_pb2.Model(
            name=SEES,
            modality=common_pb2.MODALITY_VISION,
            capabilities=[common_pb2.CAPABILITY_CHAT, common_pb2.CAPABILITY_IMAGE_INPUT],
            context_length=512,
            load_state=common_pb2.LOAD_STATE_LOADED,
            slots=4,
        )
        return [model]


class VisionFleet(Fleet[Any]):
    """A gateway with a fake scheduler, fake vision replicas and a fake chat replica behind it."""

    @property
    def eyes(self) -> list[FakeVisionReplica]:
        return [replica for replica in self.replicas if isinstance(replica, FakeVisionReplica)]

    async def ask(self, *parts: Any, **fields: Any) -> httpx.Response:
        """Asks about parts: texts, and pictures as bytes."""
        return await self.client.post("/v1/chat/completions", json=asking(*parts, **fields))


def asking(*parts: Any, **fields: Any) -> dict[str, Any]:
    """The body of a question of one turn; parts are texts, pictures as bytes, or parts as they are to be."""
    return {"model": SEES, "messages": [turn(*parts)], **fields}


def turn(*parts: Any) -> dict[str, Any]:
    """What the user says and shows."""
    return {"role": "user", "content": [_part(part) for part in parts]}


def shows(url: str, **fields: Any) -> dict[str, Any]:
    """A part that shows a picture."""
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return shows(data_url(part)) if isinstance(part, bytes) else part


@asynccontextmanager
async def vision_fleet(*replicas: FakeVisionReplica, blind: bool = True, **settings: Any) -> AsyncIterator[VisionFleet]:
    """A running fleet; of one vision replica where none are given. `blind` says whether there is a chat replica too."""
    eyes: list[FakeServer] = [*replicas] or [FakeVisionReplica()]
    async with running_fleet(VisionFleet, [*eyes, *([FakeReplica("chat-0")] if blind else [])], **settings) as fleet:
        yield fleet
