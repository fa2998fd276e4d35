"""The vision replica's promises to a gRPC client, kept by the real process: happy, cancelled, deadline, draining, killed.

The models are random and see really: what they say of a picture means nothing, but depends on it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from mesh import Mesh, Process, eventually
from PIL import Image
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza.vision.v1 import vision_pb2, vision_pb2_grpc
from trenza_runtime.rpc.channel import open_channel
from unit.llama.tiny_llama import write_model
from unit.llama.tiny_llava import TOKENS, write_projector
from wire.wire_calls import address_of, context, fault_of, messages_of

NAME = "trenza.vision.v1.VisionService"
CHUNK_BYTES = 100
"""Small, so that even small pictures come in several pieces."""
IMAGE_TOKENS = TOKENS["mlp"]


def write(root: Path, name: str, width: int, **options: Any) -> None:
    """A folder with a random model that sees."""
    (root / name).mkdir(parents=True)
    write_model(root / name / "model.gguf", width=width, context_length=4096, **options)
    write_projector(root / name / "projector.gguf", model_width=width)
    (root / name / "model.toml").write_text(
        f'name = "{name}"\nmodality = "vision"\nengine = "llama"\n'
        '[files]\nmodel = "model.gguf"\nprojector = "projector.gguf"\n[context]\nlength = 4096\n'
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick model, and one that takes long enough to be interrupted."""
    root = tmp_path_factory.mktemp("models")
    write(root, "quick", 64)
    write(root, "slow", 512, heads=8, layers=6)
    return root


@pytest.fixture
def replica(own_mesh: Mesh, models: Path) -> Process:
    """A vision replica all alone: it serves whoever knows its address, scheduler or not."""
    settings = {"MODELS_ROOT": str(models), "PRELOAD": "quick,slow", "SLOTS": "2", "QUEUE_LIMIT": "1"}
    return own_mesh.start_replica(
        "vision", "vision-0", **{f"TRENZA_VISION_{name}": value for name, value in settings.items()}
    )


@pytest.fixture
async def stub(replica: Process) -> AsyncIterator[vision_pb2_grpc.VisionServiceAsyncStub]:
    channel = open_channel(address_of(replica))
    yield vision_pb2_grpc.VisionServiceStub(channel)
    await channel.close()


def png(colour: str = "red", size: tuple[int, int] = (48, 32)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def turn(*parts: str | int | bytes, role: chat_pb2.Role.ValueType = chat_pb2.ROLE_USER) -> chat_pb2.Message:
    """A turn of texts, numbers of uploads, and pictures within."""
    content = []
    for part in parts:
        if isinstance(part, str):
            content.append(chat_pb2.ContentPart(text=part))
        else:
            source = {"data": part} if isinstance(part, bytes) else {"upload_index": part}
            content.append(chat_pb2.ContentPart(image=chat_pb2.ImagePart(**source)))
    return chat_pb2.Message(role=role, content=content)


def asks(*turns: chat_pb2.Message, model: str = "quick", **options: Any) -> chat_pb2.ChatRequest:
    """A conversation; one about an uploaded picture where nothing else is said."""
    return chat_pb2.ChatRequest(
        context=context(model),
        messages=turns or [turn("What is in", 0, "?")],
        options=chat_pb2.GenerationOptions(**{"temperature": 0.0, "max_tokens": 8, "ignore_end": True, **options}),
    )


def endless(*turns: chat_pb2.Message) -> chat_pb2.ChatRequest:
    return asks(*turns, model="slow", max_tokens=3900)


def chunks(files: Sequence[bytes]) -> Iterator[vision_pb2.ImageChunk]:
    for index, data in enumerate(files):
        for start in range(0, len(data), CHUNK_BYTES) or [0]:
            yield vision_pb2.ImageChunk(index=index, data=data[start : start + CHUNK_BYTES])


async def upload(conversation: chat_pb2.ChatRequest, *files: bytes) -> AsyncIterator[vision_pb2.DescribeRequest]:
    for chunk in chunks(files):
        yield vision_pb2.DescribeRequest(image_chunk=chunk)
    yield vision_pb2.DescribeRequest(conversation=conversation)


def text_of(messages: Iterable[Any]) -> str:
    return "".join(delta.content for message in messages for delta in message.answer.deltas)


async def first_word(call: Any) -> None:
    """Waits until the answer has begun."""
    async for message in call:
        if message.answer.deltas:
            return
    raise AssertionError("nothing was said")


async def test_happy(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    messages = await messages_of(stub.Describe(upload(asks(), png())))
    encoding = [message.encoding for message in messages if message.WhichOneof("event") == "encoding"]
    assert (encoding[-1].step, encoding[-1].steps, encoding[-1].fraction) == (1, 1, 1.0)
    last = messages[-1].answer
    assert last.usage.completion_tokens == 8
    assert last.usage.image_tokens == IMAGE_TOKENS < last.usage.prompt_tokens
    assert last.timings.prefill_s > 0

    async def counted() -> AsyncIterator[vision_pb2.CountTokensRequest]:
        for chunk in chunks([png()]):
            yield vision_pb2.CountTokensRequest(image_chunk=chunk)
        yield vision_pb2.CountTokensRequest(conversation=asks())

    count = await stub.CountTokens(counted())
    assert (count.prompt_tokens, count.image_tokens) == (last.usage.prompt_tokens, IMAGE_TOKENS)
    assert count.context_length == 4096


async def test_answers_depend_on_pictures_wherever_they_are(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    red, blue = png("red"), png("blue")

    async def said(conversation: chat_pb2.ChatRequest, *files: bytes) -> str:
        return text_of(await messages_of(stub.Describe(upload(conversation, *files))))

    uploaded = await said(asks(), red)
    assert await said(asks(turn("What is in", red, "?"))) == uploaded
    assert await said(asks(turn("What is in", 1, "?")), blue, red) == uploaded
    assert await said(asks(), blue) != uploaded
    answered = [turn("It is red.", role=chat_pb2.ROLE_ASSISTANT), turn("And where?")]
    earlier = [await said(asks(turn("What is in", 0, "?"), *answered), picture) for picture in (red, blue)]
    assert earlier[0] != earlier[1]
    assert await said(asks(turn("Hello."))) != ""


async def test_the_same_picture_in_a_longer_conversation_is_not_looked_at_again(
    stub: vision_pb2_grpc.VisionServiceAsyncStub,
) -> None:
    first = await messages_of(stub.Describe(upload(asks(), png())))
    longer = asks(turn("What is in", 0, "?"), turn("I see.", role=chat_pb2.ROLE_ASSISTANT), turn("Where?"))
    second = await messages_of(stub.Describe(upload(longer, png())))
    assert first[-1].answer.usage.cached_tokens < IMAGE_TOKENS
    assert second[-1].answer.usage.cached_tokens >= IMAGE_TOKENS
    assert second[-1].answer.usage.image_tokens == IMAGE_TOKENS


async def test_options_work_as_in_chat(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    several = asks(choices=2, seed=1, temperature=1.0, top_logprobs=1, ignore_end=False)
    messages = await messages_of(stub.Describe(upload(several, png())))
    deltas = [delta for message in messages for delta in message.answer.deltas]
    assert {delta.choice for delta in deltas if delta.finish_reason} == {0, 1}
    assert any(logprob.top for delta in deltas for logprob in delta.logprobs)
    schema = chat_pb2.JsonSchemaFormat(name="n", schema='{"type": "integer", "minimum": 3, "maximum": 5}', strict=True)
    formed = asks(ignore_end=False, max_tokens=30)
    formed.response_format.json_schema.CopyFrom(schema)
    assert text_of(await messages_of(stub.Describe(upload(formed, png())))).strip() in ("3", "4", "5")


async def test_cancelled(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    calls = [stub.Describe(upload(endless(), png())) for _ in range(2)]
    for call in calls:
        await first_word(call)
    for call in calls:
        call.cancel()
    # Both slots are free again, or these would wait behind streams of thousands of tokens.
    quick = asks(model="slow", max_tokens=1)
    await asyncio.wait_for(asyncio.gather(*(messages_of(stub.Describe(upload(quick, png()))) for _ in range(2))), 60)


async def test_cancelled_while_pictures_are_looked_at(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    pictures = [png(size=(size, size)) for size in range(20, 36)]
    call = stub.Describe(upload(endless(turn(*range(len(pictures)), "?")), *pictures))
    async for message in call:
        if message.WhichOneof("event") == "encoding":
            break
    call.cancel()
    await asyncio.wait_for(messages_of(stub.Describe(upload(asks(model="slow", max_tokens=1), png()))), 60)


async def test_deadline(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    fault = await fault_of(stub.Describe(upload(endless(), png()), timeout=2))
    assert fault.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(messages_of(stub.Describe(upload(asks(model="slow", max_tokens=1), png()))), 60)


async def test_full(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    """Two slots, one waits, the fourth is refused and told when to come back."""
    running = [stub.Describe(upload(endless(), png())) for _ in range(2)]
    for call in running:
        await first_word(call)
    waiting = asyncio.create_task(messages_of(stub.Describe(upload(asks(model="slow", max_tokens=1), png()))))
    await asyncio.sleep(0.5)
    fault = await fault_of(stub.Describe(upload(endless(), png())))
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert fault.retry_after_s is not None
    assert not waiting.done()
    for call in running:
        call.cancel()
    await asyncio.wait_for(waiting, 60)


async def test_draining(stub: vision_pb2_grpc.VisionServiceAsyncStub, replica: Process) -> None:
    call = stub.Describe(upload(asks(model="slow", max_tokens=60), png()))
    await first_word(call)
    running = asyncio.create_task(messages_of(call))
    replica.popen.terminate()
    await asyncio.sleep(0.3)
    # gRPC's client forgets why a call was refused where it was still writing; one message is mostly written by then.
    inline = asks(turn("What is in", png(), "?"))
    reasons = {(await fault_of(stub.Describe(upload(inline)))).reason for _ in range(5)}
    assert reasons & {"DRAINING", "UNAVAILABLE"}
    assert reasons <= {"DRAINING", "UNAVAILABLE", "INTERNAL"}
    messages = await asyncio.wait_for(running, 60)
    assert messages[-1].answer.usage.completion_tokens == 60
    assert await asyncio.to_thread(replica.popen.wait, 30) == 0


async def test_killed(stub: vision_pb2_grpc.VisionServiceAsyncStub, replica: Process) -> None:
    call = stub.Describe(upload(endless(), png()))
    await first_word(call)
    workers = [*replica.workers("slow"), *replica.workers("quick")]
    assert workers
    replica.kill()
    assert (await fault_of(call)).code == grpc.StatusCode.UNAVAILABLE
    eventually(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


async def test_wrong_requests_are_told_what_is_wrong(stub: vision_pb2_grpc.VisionServiceAsyncStub) -> None:
    wrong = {
        "MODEL_NOT_FOUND": asks(model="nope"),
        "INVALID_ARGUMENT": asks(model=""),
        "CONTEXT_LENGTH_EXCEEDED": asks(turn(0, "one two three " * 3000)),
    }
    for reason, conversation in wrong.items():
        assert (await fault_of(stub.Describe(upload(conversation, png())))).reason == reason
    hostile = (b"", b"no picture", png()[:60], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04" + png())
    for data in hostile:
        fault = await fault_of(stub.Describe(upload(asks(), data)))
        assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PICTURE_INVALID"), data[:9]
        assert fault.details["param"] == "messages[0].content[1]"
    assert text_of(await messages_of(stub.Describe(upload(asks(), png()))))


async def test_health_reflection_and_catalogue(replica: Process) -> None:
    with grpc.insecure_channel(address_of(replica)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", NAME):
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert NAME in ProtoReflectionDescriptorDatabase(channel).get_services()
        models = common_pb2_grpc.ModelServiceStub(channel).ListModels(common_pb2.ListModelsRequest()).models
        assert [model.name for model in models] == ["quick", "slow"]
        assert common_pb2.CAPABILITY_IMAGE_INPUT in models[0].capabilities


async def test_a_replica_without_models_runs_and_says_so(own_mesh: Mesh, tmp_path: Path) -> None:
    alone = own_mesh.start_replica("vision", "vision-0", TRENZA_VISION_MODELS_ROOT=str(tmp_path))
    async with open_channel(address_of(alone)) as channel:
        fault = await fault_of(vision_pb2_grpc.VisionServiceStub(channel).Describe(upload(asks(), png())))
    assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert alone.alive()
