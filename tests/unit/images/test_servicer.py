"""The images API over a real connection, with real worker processes behind it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from studio import difference, file_of, opened, pixels
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2 as pb
from trenza.images.v1 import images_pb2_grpc
from trenza_images.models import spec_for
from trenza_images.servicer import ImagesServicer
from trenza_images.settings import ImagesSettings
from trenza_runtime.errors import RpcFault, from_rpc_error
from trenza_runtime.models.host import HostLimits, LoadedModel, ModelHost
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.rpc.server import RpcServer, RpcService

pytestmark = pytest.mark.asyncio(loop_scope="module")
SLOTS = 4
QUEUE_LIMIT = 2
REQUEST_LIMIT_S = 120.0
UPLOAD_LIMIT_BYTES = 2**20


@dataclass
class Service:
    """A running service, and a client's view of it."""

    host: ModelHost
    stub: images_pb2_grpc.ImagesServiceStub

    async def model(self) -> LoadedModel:
        async with self.host.use("tiny", REQUEST_LIMIT_S) as loaded:
            return loaded

    def generate(self, prompt: str = "a red circle", model: str = "tiny", **options: Any) -> Any:
        request = pb.GenerateRequest(
            context=common_pb2.RequestContext(model=model), prompt=prompt, options=pb.DrawingOptions(**options)
        )
        return self.stub.Generate(request, timeout=REQUEST_LIMIT_S)

    def edit(self, chunks: Sequence[pb.UploadChunk], prompt: str = "a red circle", **options: Any) -> Any:
        context = common_pb2.RequestContext(model="tiny")
        config = pb.EditConfig(context=context, prompt=prompt, options=pb.DrawingOptions(**options))
        messages = [pb.EditRequest(config=config), *(pb.EditRequest(chunk=chunk) for chunk in chunks)]
        return self.stub.Edit(iter(messages), timeout=REQUEST_LIMIT_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    root = tmp_path_factory.mktemp("models")
    (root / "tiny").mkdir()
    (root / "tiny" / "pipeline").symlink_to(folders["turbo"])
    (root / "tiny" / "model.toml").write_text(
        f'name = "tiny"\nmodality = "images"\nengine = "diffusers"\n[files]\npipeline = "pipeline"\n'
        f"[defaults]\nsteps = 2\n[limits]\nslots = {SLOTS}\n"
    )
    settings = ImagesSettings(threads=1, device="cpu")
    registry = ModelRegistry(root, common_pb2.MODALITY_IMAGES)
    host = ModelHost(registry, lambda manifest: spec_for(manifest, settings), HostLimits(queue_limit=QUEUE_LIMIT))
    servicer = ImagesServicer(host, REQUEST_LIMIT_S, UPLOAD_LIMIT_BYTES)
    name = "trenza.images.v1.ImagesService"
    added = RpcService(name, lambda server: images_pb2_grpc.add_ImagesServiceServicer_to_server(servicer, server))
    server = RpcServer("127.0.0.1", 0, [added])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Service(host, images_pb2_grpc.ImagesServiceStub(channel))
    await server.drain(0)
    await host.stop(5)


async def told(call: Any) -> list[pb.DrawingEvent]:
    return [response.event async for response in call]


async def fault_of(call: Any) -> RpcFault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await told(call)
    return from_rpc_error(caught.value)


def pictures(events: Sequence[pb.DrawingEvent]) -> dict[int, bytes]:
    """The finished pictures, by number."""
    found: dict[int, bytes] = {}
    for event in events:
        if event.WhichOneof("event") == "image":
            found[event.image.index] = found.get(event.image.index, b"") + event.image.data
    return found


async def eventually(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  what is waited for is another process's doing
            await asyncio.sleep(0.02)


def upload(data: bytes, index: int = 0, role: pb.ImageRole.ValueType = pb.IMAGE_ROLE_SOURCE) -> list[pb.UploadChunk]:
    media = common_pb2.MediaDescription(media_type="image/png")
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    first, *rest = [pb.UploadChunk(index=index, data=piece) for piece in pieces]
    first.MergeFrom(pb.UploadChunk(role=role, media=media))
    return [first, *rest]


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (side, side, 3), dtype=np.uint8))


async def test_a_drawing_tells_progress_sketches_pictures_and_a_summary(service: Service) -> None:
    events = await told(service.generate(count=2, steps=4, seed=7, partial_images=1, format=pb.IMAGE_FORMAT_WEBP))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[-1] == "summary"
    assert {*kinds} == {"progress", "partial", "image", "summary"}
    assert kinds.count("partial") == 2
    assert [opened(data).format for data in pictures(events).values()] == ["WEBP", "WEBP"]
    seeds = {event.image.index: event.image.seed for event in events if event.image.last}
    assert seeds == {0: 7, 1: 8}
    summary = events[-1].summary
    assert (summary.images, summary.width, summary.height, summary.steps) == (2, 64, 64, 4)
    assert summary.usage.prompt_tokens == 3
    assert summary.truncated_prompt == ""


async def test_a_seed_that_nobody_gave_is_told_and_draws_the_picture_again(service: Service) -> None:
    events = await told(service.generate())
    (seed,) = [event.image.seed for event in events if event.image.last]
    again = await told(service.generate(seed=seed))
    other = await told(service.generate())
    assert pictures(events)[0] == pictures(again)[0] != pictures(other)[0]


async def test_concurrent_calls_share_passes(service: Service) -> None:
    model = await service.model()
    answers = await asyncio.gather(*(told(service.generate(seed=seed, steps=20)) for seed in range(SLOTS)))
    assert all(len(pictures(events)) == 1 for events in answers)
    await eventually(lambda: model.worker.gauges["drawings_per_pass"] > 1.5)


async def test_a_long_prompt_is_cut_and_the_summary_says_what_was_left_out(service: Service) -> None:
    prompt = " ".join(["a red circle", *(f"word{number}" for number in range(10_000))])
    events = await told(service.generate(prompt, steps=1))
    assert events[-1].summary.truncated_prompt.endswith("word9999")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"count": 11}, "n"),
        ({"width": 7, "height": 7}, "size"),
        ({"width": 100_000, "height": 100_000}, "size"),
        ({"width": 60, "height": 64}, "size"),
    ],
)
async def test_impossible_requests_name_the_field(service: Service, options: dict[str, Any], param: str) -> None:
    fault = await fault_of(service.generate(**options))
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert fault.details["param"] == param


async def test_unknown_models_are_not_found(service: Service) -> None:
    assert (await fault_of(service.generate(model="other"))).reason == "MODEL_NOT_FOUND"
    assert (await fault_of(service.generate(model=""))).details["param"] == "model"


async def test_what_is_not_supported_says_so(service: Service) -> None:
    fault = await fault_of(service.generate(background=pb.BACKGROUND_TRANSPARENT))
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED")
    assert fault.details["param"] == "background"


async def test_an_edit_under_a_mask_leaves_the_rest_alone(service: Service) -> None:
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    source = file_of(noise())
    call = service.edit([*upload(source), *upload(file_of(mask), 1, pb.IMAGE_ROLE_MASK)])
    drawn = pixels(pictures(await told(call))[0])
    assert difference(drawn[:, 32:], pixels(source)[:, 32:]) == 0
    assert difference(drawn[:, :32], pixels(source)[:, :32]) > 0


async def test_hostile_uploads_are_refused_and_the_service_lives_on(service: Service) -> None:
    model = await service.model()
    for data in (b"GIF89a" + b"x" * 100, file_of(noise())[:2000]):
        fault = await fault_of(service.edit(upload(data)))
        assert (fault.reason, fault.details["param"]) == ("INVALID_ARGUMENT", "image")
    fault = await fault_of(service.edit(upload(bytes(UPLOAD_LIMIT_BYTES + 1))))
    assert "bytes together" in fault.message
    fault = await fault_of(
        service.edit([*upload(file_of(noise())), *upload(file_of(noise(32)), 1, pb.IMAGE_ROLE_MASK)])
    )
    assert fault.details["param"] == "mask"
    assert len(pictures(await told(service.generate()))) == 1
    assert await service.model() is model


async def test_a_variation_is_drawn_after_its_picture(service: Service) -> None:
    context = common_pb2.RequestContext(model="tiny")
    config = pb.VaryRequest(config=pb.VaryConfig(context=context, options=pb.DrawingOptions(count=2)))
    chunks = [pb.VaryRequest(chunk=chunk) for chunk in upload(file_of(noise()))]
    events = await told(service.stub.Vary(iter([config, *chunks]), timeout=REQUEST_LIMIT_S))
    assert len(pictures(events)) == 2
    fault = await fault_of(service.stub.Vary(iter(chunks), timeout=REQUEST_LIMIT_S))
    assert fault.details["param"] == "config"


async def test_a_cancelled_call_gives_its_slots_back_at_once(service: Service) -> None:
    model = await service.model()
    call = service.generate(count=SLOTS, steps=200)
    await anext(aiter(call))
    assert model.gate.slots_used == SLOTS
    call.cancel()
    await eventually(lambda: model.gate.slots_used == 0)
    await eventually(lambda: model.worker.gauges["drawing"] == 0)


async def test_a_call_that_is_cancelled_while_it_uploads_leaves_nothing(service: Service) -> None:
    sent = asyncio.Event()

    async def slowly() -> AsyncIterator[pb.EditRequest]:
        context = common_pb2.RequestContext(model="tiny")
        yield pb.EditRequest(config=pb.EditConfig(context=context, prompt="a star"))
        sent.set()
        await asyncio.sleep(REQUEST_LIMIT_S)

    messages: Any = slowly()
    call = service.stub.Edit(messages, timeout=REQUEST_LIMIT_S)
    await sent.wait()
    call.cancel()
    assert (await service.model()).gate.slots_used == 0
    assert len(pictures(await told(service.generate()))) == 1


async def test_a_deadline_ends_the_drawing(service: Service) -> None:
    model = await service.model()
    request = pb.GenerateRequest(
        context=common_pb2.RequestContext(model="tiny"),
        prompt="a star",
        options=pb.DrawingOptions(steps=200, count=SLOTS),
    )
    fault = await fault_of(service.stub.Generate(request, timeout=0.3))
    assert fault.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: model.gate.slots_used == 0)
    await eventually(lambda: model.worker.gauges["drawing"] == 0)


async def test_more_than_may_wait_is_refused(service: Service) -> None:
    model = await service.model()
    running = [service.generate(count=SLOTS, steps=200) for _ in range(1 + QUEUE_LIMIT)]
    await eventually(lambda: model.gate.waiting == QUEUE_LIMIT)
    fault = await fault_of(service.generate())
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    for call in running:
        call.cancel()
    await eventually(lambda: model.gate.slots_used == 0)


async def test_a_killed_worker_costs_its_requests(service: Service) -> None:
    model = await service.model()
    call = service.generate(steps=200, count=SLOTS)
    await anext(aiter(call))
    assert model.worker.pid is not None
    os.kill(model.worker.pid, signal.SIGKILL)
    fault = await fault_of(call)
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_CRASHED")
