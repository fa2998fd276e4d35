"""The images replica's promises to a gRPC client, kept by the real process: happy, cancelled, deadline, draining, killed."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from mesh import STARTER_MODELS, Mesh, Process, eventually
from PIL import Image
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza.images.v1 import images_pb2, images_pb2_grpc
from trenza_runtime.rpc.channel import open_channel
from wire.wire_calls import address_of, context, fault_of, messages_of

NAME = "trenza.images.v1.ImagesService"
MODEL = "starter-draw"
CHUNK_BYTES = 1000
"""Small, so that even small pictures come in several pieces."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The starter model, and the same pipeline at a size and a number of steps that take long enough to be interrupted."""
    root = tmp_path / "models"
    (root / "slow").mkdir(parents=True)
    (root / MODEL).symlink_to(STARTER_MODELS / MODEL)
    (root / "slow" / "pipeline").symlink_to(STARTER_MODELS / MODEL / "pipeline")
    (root / "slow" / "model.toml").write_text(
        'name = "slow"\nmodality = "images"\nengine = "diffusers"\n[files]\npipeline = "pipeline"\n'
        '[defaults]\nsteps = 100\nguidance_scale = 0.0\nsize = "512x512"\n'
    )
    return root


@pytest.fixture
def replica(own_mesh: Mesh, models: Path) -> Process:
    """An images replica all alone: it serves whoever knows its address, scheduler or not."""
    settings = {"MODELS_ROOT": str(models), "PRELOAD": f"{MODEL},slow", "SLOTS": "2", "QUEUE_LIMIT": "1"}
    return own_mesh.start_replica(
        "images", "images-0", **{f"TRENZA_IMAGES_{name}": value for name, value in settings.items()}
    )


@pytest.fixture
async def stub(replica: Process) -> AsyncIterator[images_pb2_grpc.ImagesServiceAsyncStub]:
    channel = open_channel(address_of(replica))
    yield images_pb2_grpc.ImagesServiceStub(channel)
    await channel.close()


def draws(prompt: str = "a red circle", model: str = MODEL, **options: Any) -> images_pb2.GenerateRequest:
    return images_pb2.GenerateRequest(
        context=context(model), prompt=prompt, options=images_pb2.DrawingOptions(**{"seed": 1, **options})
    )


def pictures(messages: Iterable[Any]) -> dict[int, Image.Image]:
    """The finished pictures of an answer by their numbers."""
    pieces: dict[int, bytes] = {}
    for message in messages:
        chunk = message.event.image
        if message.event.WhichOneof("event") == "image":
            pieces[chunk.index] = pieces.get(chunk.index, b"") + chunk.data
    return {index: Image.open(io.BytesIO(data)) for index, data in pieces.items()}


def png(size: tuple[int, int] = (128, 128), colour: str = "white", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, "PNG")
    return stream.getvalue()


async def edit(config: images_pb2.EditConfig, *uploads: bytes, mask: bytes = b"") -> AsyncIterator[Any]:
    yield images_pb2.EditRequest(config=config)
    roles = [images_pb2.IMAGE_ROLE_SOURCE] * len(uploads) + [images_pb2.IMAGE_ROLE_MASK] * bool(mask)
    for index, (role, data) in enumerate(zip(roles, [*uploads, *([mask] if mask else [])], strict=True)):
        for begin in range(0, len(data), CHUNK_BYTES) or [0]:
            chunk = images_pb2.UploadChunk(index=index, role=role, data=data[begin : begin + CHUNK_BYTES])
            yield images_pb2.EditRequest(chunk=chunk)


def edits(prompt: str = "a red circle", **options: Any) -> images_pb2.EditConfig:
    return images_pb2.EditConfig(
        context=context(MODEL), prompt=prompt, options=images_pb2.DrawingOptions(**{"seed": 1, **options})
    )


async def first_step(call: Any) -> None:
    """Waits until the drawing has begun."""
    async for message in call:
        if message.event.progress.step:
            return
    raise AssertionError("nothing was drawn")


async def test_happy(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    messages = await messages_of(stub.Generate(draws(count=2, width=256, height=128, steps=3, partial_images=1)))
    kinds = [message.event.WhichOneof("event") for message in messages]
    assert kinds[-1] == "summary"
    assert {"progress", "partial", "image"} <= set(kinds)
    assert {index: picture.size for index, picture in pictures(messages).items()} == {0: (256, 128), 1: (256, 128)}
    summary = messages[-1].event.summary
    assert (summary.images, summary.width, summary.height, summary.steps) == (2, 256, 128, 3)
    assert summary.usage.prompt_tokens > 0
    assert not summary.truncated_prompt


async def test_a_long_prompt_is_cut_and_the_answer_says_so(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    messages = await messages_of(stub.Generate(draws("a red circle " + "and so on " * 5000 + "zebra")))
    assert messages[-1].event.summary.truncated_prompt.endswith("zebra")
    assert pictures(messages).keys() == {0}


async def test_edits_and_variations(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    (redrawn,) = pictures(await messages_of(stub.Edit(edit(edits(steps=4, strength=1.0), png())))).values()
    assert redrawn.size == (128, 128)
    hole = Image.new("RGBA", (128, 128), "black")
    hole.paste((0, 0, 0, 0), (64, 0, 128, 128))
    stream = io.BytesIO()
    hole.save(stream, "PNG")
    source = png(colour="yellow")
    masked = pictures(await messages_of(stub.Edit(edit(edits(steps=4), source, mask=stream.getvalue()))))[0]
    kept = masked.convert("RGB").crop((0, 0, 60, 128)).getcolors()
    assert kept == [(60 * 128, (255, 255, 0))], "what the mask keeps is not touched"

    async def upload() -> AsyncIterator[images_pb2.VaryRequest]:
        config = images_pb2.VaryConfig(context=context(MODEL), options=images_pb2.DrawingOptions(count=2))
        yield images_pb2.VaryRequest(config=config)
        yield images_pb2.VaryRequest(chunk=images_pb2.UploadChunk(data=png()))

    assert len(pictures(await messages_of(stub.Vary(upload())))) == 2


async def test_cancelled(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    calls = [stub.Generate(draws(model="slow")) for _ in range(2)]
    for call in calls:
        await first_step(call)
    for call in calls:
        call.cancel()
    # Both slots are free again, or these would wait behind a hundred long steps.
    await asyncio.wait_for(
        asyncio.gather(*(messages_of(stub.Generate(draws(model="slow", steps=1))) for _ in range(2))), 60
    )


async def test_deadline(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    fault = await fault_of(stub.Generate(draws(model="slow", steps=200), timeout=2))
    assert fault.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(messages_of(stub.Generate(draws(model="slow", steps=1))), 60)


async def test_full(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    """Two slots, one waits, the fourth is refused and told when to come back."""
    running = [stub.Generate(draws(model="slow", steps=200)) for _ in range(2)]
    for call in running:
        await first_step(call)
    waiting = asyncio.create_task(messages_of(stub.Generate(draws(model="slow", steps=1))))
    await asyncio.sleep(0.5)
    fault = await fault_of(stub.Generate(draws(model="slow")))
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert fault.retry_after_s is not None
    assert not waiting.done()
    for call in running:
        call.cancel()
    await asyncio.wait_for(waiting, 60)


async def test_draining(stub: images_pb2_grpc.ImagesServiceAsyncStub, replica: Process) -> None:
    call = stub.Generate(draws(model="slow", steps=10))
    await first_step(call)
    running = asyncio.create_task(messages_of(call))
    replica.popen.terminate()
    await asyncio.sleep(0.3)
    assert (await fault_of(stub.Generate(draws()))).reason in ("DRAINING", "UNAVAILABLE")
    assert pictures(await asyncio.wait_for(running, 60)).keys() == {0}
    assert await asyncio.to_thread(replica.popen.wait, 30) == 0


async def test_killed(stub: images_pb2_grpc.ImagesServiceAsyncStub, replica: Process) -> None:
    call = stub.Generate(draws(model="slow", steps=200))
    await first_step(call)
    workers = [*replica.workers("slow"), *replica.workers(MODEL)]
    assert workers
    replica.kill()
    assert (await fault_of(call)).code == grpc.StatusCode.UNAVAILABLE
    eventually(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


async def test_wrong_requests_are_told_what_is_wrong(stub: images_pb2_grpc.ImagesServiceAsyncStub) -> None:
    wrong: dict[str, images_pb2.GenerateRequest] = {
        "n": draws(count=11),
        "size": draws(width=7, height=7),
        "steps": draws(steps=0),
        "guidance_scale": draws(guidance_scale=float("nan")),
        "background": draws(background=images_pb2.BACKGROUND_TRANSPARENT),
        "model": draws(model=""),
    }
    for param, request in wrong.items():
        assert (await fault_of(stub.Generate(request))).details["param"] == param
    huge = await fault_of(stub.Generate(draws(width=100_000, height=100_000)))
    assert huge.details["param"] == "size"
    assert (await fault_of(stub.Generate(draws(model="nope")))).reason == "MODEL_NOT_FOUND"
    for upload in (b"", b"no picture", png()[:80], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04" + png()):
        fault = await fault_of(stub.Edit(edit(edits(), upload)))
        assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "image"), upload[:9]
    fault = await fault_of(stub.Edit(edit(edits(), png(), mask=png((64, 64)))))
    assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "mask")
    assert pictures(await messages_of(stub.Generate(draws()))).keys() == {0}


async def test_health_reflection_and_catalogue(replica: Process) -> None:
    with grpc.insecure_channel(address_of(replica)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", NAME):
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert NAME in ProtoReflectionDescriptorDatabase(channel).get_services()
        models = common_pb2_grpc.ModelServiceStub(channel).ListModels(common_pb2.ListModelsRequest()).models
        assert [model.name for model in models] == ["slow", MODEL]
