"""Images replicas that do as they are told, and a gateway in front of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from gateway_fakes import FakeScheduler, eventually
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2, images_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza_gateway.gateway import Gateway
from trenza_gateway.settings import Settings
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.rpc.server import RpcServer, RpcService

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


class FakeImagesReplica(images_pb2_grpc.ImagesServiceServicer):
    """An images replica that follows its script."""

    def __init__(self, replica_id: str, script: Script = draws) -> None:
        self.replica_id = replica_id
        self.script = script
        self.capabilities = [common_pb2.CAPABILITY_IMAGE_GENERATION, common_pb2.CAPABILITY_IMAGE_EDIT]
        self.asked: list[Asked] = []
        self.metadata: list[dict[str, Any]] = []
        self.running = 0
        self.cancelled = 0
        self.address = ""
        self._server: RpcServer | None = None

    async def start(self) -> None:
        service = RpcService(
            "trenza.images.v1.ImagesService",
            lambda server: images_pb2_grpc.add_ImagesServiceServicer_to_server(self, server),
        )
        self._server = RpcServer("127.0.0.1", 0, [service])
        self.address = f"127.0.0.1:{await self._server.start()}"

    async def die(self) -> None:
        """Stops at once; running calls break."""
        if self._server is not None:
            inner = self._server._server
            assert inner is not None
            await inner.stop(0)
            self._server = None

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
        with self._counted():
            if requests is not None:
                await _take_in(asked, requests)
            async for message in self.script(answer, asked):
                yield message

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):  # the latter while a message is being written
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def view(self) -> scheduler_pb2.ReplicaView:
        """The replica as a snapshot shows it."""
        model = common_pb2.Model(
            name=DRAWS,
            modality=common_pb2.MODALITY_IMAGES,
            capabilities=self.capabilities,
            load_state=common_pb2.LOAD_STATE_LOADED,
            slots=4,
        )
        state = scheduler_pb2.ReplicaState(
            replica_id=self.replica_id,
            generation=1,
            modality=common_pb2.MODALITY_IMAGES,
            address=self.address,
            models=[scheduler_pb2.ModelState(model=model)],
            queue_limit=8,
        )
        return scheduler_pb2.ReplicaView(state=state, health=scheduler_pb2.REPLICA_HEALTH_LIVE)


async def _take_in(asked: Asked, requests: Any) -> None:
    async for request in requests:
        chunk = request.chunk
        if chunk.index == len(asked.uploads):
            asked.uploads.append(Upload(chunk.role, chunk.media))
        else:
            assert chunk.index == len(asked.uploads) - 1
            assert not chunk.role
        asked.uploads[-1].content += chunk.data


@dataclass
class ImagesFleet:
    """A gateway with a fake scheduler and fake images replicas behind it."""

    scheduler: FakeScheduler
    replicas: list[FakeImagesReplica]
    gateway: Gateway
    client: httpx.AsyncClient = field(repr=False)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.gateway.grpc_port}"

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

    def outcomes(self) -> list[str]:
        return [scheduler_pb2.Outcome.Name(release.outcome) for release in self.scheduler.releases]

    async def ready(self) -> None:
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self.client.get("/readyz")).status_code == 200


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
    for replica in images:
        await replica.start()
    views: Any = list(images)
    scheduler = FakeScheduler(views)
    await scheduler.start()
    address = f"127.0.0.1:{scheduler.port}"
    gateway = Gateway(
        Settings(**{"http_port": 0, "grpc_port": 0, "scheduler_address": address, "drain_s": 1, **settings})
    )
    await gateway.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http_port}", timeout=30) as client:
        fleet = ImagesFleet(scheduler, images, gateway, client)
        try:
            await fleet.ready()
            yield fleet
        finally:
            await client.aclose()
            await gateway.drain()
            await scheduler.die()
            for replica in images:
                await replica.die()
