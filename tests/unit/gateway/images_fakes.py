"""Images replicas that do as they are told, and a gateway in front of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from fleet_fakes import FakeServer, Fleet, running_fleet
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2, images_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault

DRAWS = "starter-draw"
PIECE_BYTES = 100
"""As small as this, and no multiple of three, so that pictures come in several pieces."""

CRASH = RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, "The engine crashed.")
BAD_SIZE = RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, "Too small.", {"param": "size"})

Answer = Any
"""A GenerateResponse, an EditResponse or a VaryResponse."""


@dataclass
class Upload:
    """One uploaded picture as a replica received it."""

    role: int
    media: common_pb2.MediaDescription
    content: bytes = b""


@dataclass
class Asked:
    """One request as a replica received it."""

    context: common_pb2.RequestContext
    prompt: str
    options: images_pb2.DrawingOptions
    uploads: list[Upload] = field(default_factory=list)


Script = Callable[[type, Asked], AsyncIterator[Answer]]


def picture(index: int = 0, sketch: int | None = None, size_bytes: int = 1000) -> bytes:
    """The bytes of a picture, of which no two are alike."""
    name = f"picture {index}" if sketch is None else f"sketch {sketch} of {index}"
    return (name.encode() + bytes(range(256)) * (size_bytes // 256 + 1))[:size_bytes]


def pieces(answer: type, content: bytes, index: int, sketch: int | None = None, seed: int = 0) -> list[Answer]:
    """The messages of one picture."""
    step = max(PIECE_BYTES, len(content) // 16)
    messages = []
    for start in range(0, len(content), step):
        last = start + step >= len(content)
        chunk = images_pb2.ImageChunk(
            index=index,
            partial_index=sketch or 0,
            data=content[start : start + step],
            last=last,
            seed=seed if last and sketch is None else 0,
        )
        event = images_pb2.DrawingEvent(image=chunk) if sketch is None else images_pb2.DrawingEvent(partial=chunk)
        messages.append(answer(event=event))
    return messages


def summary(answer: type, asked: Asked) -> Answer:
    """The end of a drawing."""
    return answer(
        event=images_pb2.DrawingEvent(
            summary=images_pb2.DrawingSummary(
                images=asked.options.count,
                width=asked.options.width or 64,
                height=asked.options.height or 64,
                steps=asked.options.steps or 1,
                usage=common_pb2.TokenUsage(prompt_tokens=len(asked.prompt.split())),
                truncated_prompt=asked.prompt[100:],
                background=images_pb2.BACKGROUND_OPAQUE,
                quality=images_pb2.QUALITY_MEDIUM,
            )
        )
    )


async def draws(answer: type, asked: Asked) -> AsyncIterator[Answer]:
    """Shows what sketches are asked for, then the pictures, the last one first."""
    yield answer(event=images_pb2.DrawingEvent(progress=common_pb2.Progress(fraction=0.5)))
    seed = asked.options.seed if asked.options.HasField("seed") else 1000
    for index in reversed(range(asked.options.count)):
        for sketch in range(asked.options.partial_images):
            for message in pieces(answer, picture(index, sketch), index, sketch):
                yield message
        for message in pieces(answer, picture(index), index, seed=seed + index):
            yield message
    yield summary(answer, asked)


def failing(fault: RpcFault, after: int = 0) -> Script:
    """Fails with a fault after so many messages."""

    async def script(answer: type, asked: Asked) -> AsyncIterator[Answer]:
        left = after
        async for message in draws(answer, asked):
            if left == 0:
                raise fault
            left -= 1
            yield message

    return script


def large(size_bytes: int) -> Script:
    """Draws pictures of that size."""

    async def script(answer: type, asked: Asked) -> AsyncIterator[Answer]:
        for index in range(asked.options.count):
            for message in pieces(answer, picture(index, size_bytes=size_bytes), index, seed=index):
                yield message
        yield summary(answer, asked)

    return script


async def silent(answer: type, _asked: Asked) -> AsyncIterator[Answer]:
    """Begins, and never goes on."""
    yield answer(event=images_pb2.DrawingEvent(progress=common_pb2.Progress(fraction=0.1)))
    await asyncio.sleep(3600)


class FakeImagesReplica(FakeServer, images_pb2_grpc.ImagesServiceServicer):
    """An images replica that follows its script."""

    SERVICE = "trenza.images.v1.ImagesService"
    MODALITY = common_pb2.MODALITY_IMAGES

    def __init__(self, replica_id: str, script: Script = draws) -> None:
        super().__init__(replica_id)
        self.script = script
        self.capabilities = [common_pb2.CAPABILITY_IMAGE_GENERATION, common_pb2.CAPABILITY_IMAGE_EDIT]
        self.asked: list[Asked] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        images_pb2_grpc.add_ImagesServiceServicer_to_server(self, server)

    @property
    def models(self) -> list[common_pb2.Model]:
        model = common_pb2.Model(
            name=DRAWS,
            modality=common_pb2.MODALITY_IMAGES,
            capabilities=self.capabilities,
            load_state=common_pb2.LOAD_STATE_LOADED,
            slots=4,
        )
        return [model]

    async def Generate(
        self, request: images_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[images_pb2.GenerateResponse]:
        asked = Asked(request.context, request.prompt, request.options)
        async for message in self._follow(images_pb2.GenerateResponse, asked, context):
            yield message

    async def Edit(self, requests: Any, context: Any) -> AsyncIterator[images_pb2.EditResponse]:
        config = (await anext(requests)).config
        asked = Asked(config.context, config.prompt, config.options)
        async for message in self._follow(images_pb2.EditResponse, asked, context, requests):
            yield message

    async def Vary(self, requests: Any, context: Any) -> AsyncIterator[images_pb2.VaryResponse]:
        config = (await anext(requests)).config
        async for message in self._follow(
            images_pb2.VaryResponse, Asked(config.context, "", config.options), context, requests
        ):
            yield message

    async def _follow(self, answer: type, asked: Asked, context: Any, requests: Any = None) -> AsyncIterator[Answer]:
        self.asked.append(asked)
        self.metadata.append(dict(context.invocation_metadata()))
        with self.counted():
            if requests is not None:
                await _take_in(asked, requests)
            async for message in self.script(answer, asked):
                yield message


async def _take_in(asked: Asked, requests: Any) -> None:
    async for request in requests:
        chunk = request.chunk
        if chunk.index == len(asked.uploads):
            asked.uploads.append(Upload(chunk.role, chunk.media))
        else:
            assert chunk.index == len(asked.uploads) - 1
            assert not chunk.role
        asked.uploads[-1].content += chunk.data


class ImagesFleet(Fleet[FakeImagesReplica]):
    """A gateway with a fake scheduler and fake images replicas behind it."""

    async def generate(self, prompt: str = "a red circle", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/images/generations", json={"model": DRAWS, "prompt": prompt, **fields})

    async def edit(self, files: Any = None, **fields: Any) -> httpx.Response:
        """Uploads one picture where no files are given."""
        return await self.client.post(
            "/v1/images/edits",
            files=files if files is not None else {"image": ("a.png", picture(), "image/png")},
            data={"model": DRAWS, "prompt": "a blue star", **fields},
        )

    async def vary(self, files: Any = None, **fields: Any) -> httpx.Response:
        return await self.client.post(
            "/v1/images/variations",
            files=files if files is not None else {"image": ("a.png", picture(), "image/png")},
            data={"model": DRAWS, **fields},
        )


def events_of(text: str) -> list[tuple[str, Any]]:
    """The events of a stream: name and data."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines.get("event", ""), json.loads(lines["data"])))
    return found


def error_of(response: httpx.Response, status: int = 400) -> tuple[str | None, str | None]:
    """The field and the code of an error with that status."""
    assert response.status_code == status, response.text[:500]
    error = response.json()["error"]
    return error["param"], error["code"]


@asynccontextmanager
async def images_fleet(*replicas: FakeImagesReplica, **settings: Any) -> AsyncIterator[ImagesFleet]:
    """A running fleet; of one replica where none are given."""
    images = list(replicas) or [FakeImagesReplica("images-0")]
    async with running_fleet(ImagesFleet, images, **settings) as fleet:
        yield fleet
