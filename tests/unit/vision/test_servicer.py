"""The vision API over a real connection, with a real worker process behind it that runs a fake engine."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import looker
import psutil
import pytest
import pytest_asyncio
from PIL import Image
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2 as pb
from trenza.vision.v1 import vision_pb2_grpc
from trenza_runtime.errors import RpcFault, from_rpc_error
from trenza_runtime.models.host import HostLimits, LoadedModel, ModelHost
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_vision.opening import PictureOpener
from trenza_vision.servicer import VisionLimits, VisionServicer
from trenza_vision.uploads import UploadLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT_S = 60.0
SIDE = 100
MOST_PICTURES = 3
UPLOAD_BYTES = 300_000
UPLOAD_S = 5.0
HELD_BYTES = 400_000
SOURCE_PIXELS = 4_000_000


@dataclass
class Service:
    """A running service, and a client's view of it."""

    host: ModelHost
    servicer: VisionServicer
    stub: vision_pb2_grpc.VisionServiceStub

    async def model(self) -> LoadedModel:
        async with self.host.use("tiny", LIMIT_S) as loaded:
            return loaded

    def describe(self, messages: Iterable[pb.DescribeRequest], timeout_s: float = LIMIT_S) -> Any:
        return self.stub.Describe(iter(messages), timeout=timeout_s)

    def held_bytes(self) -> int:
        return self.servicer._room.taken_bytes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    root = tmp_path_factory.mktemp("models")
    (root / "tiny").mkdir()
    (root / "tiny" / "model.toml").write_text('name = "tiny"\nmodality = "vision"\n')
    registry = ModelRegistry(root, common_pb2.MODALITY_VISION)
    host = ModelHost(registry, lambda _: ("looker:load", None), HostLimits(queue_limit=2))
    opener = PictureOpener(2, SOURCE_PIXELS)
    limits = VisionLimits(LIMIT_S, UploadLimits(MOST_PICTURES, UPLOAD_BYTES, UPLOAD_S), SIDE, HELD_BYTES)
    servicer = VisionServicer(host, opener, limits)
    name = "trenza.vision.v1.VisionService"
    added = RpcService(name, lambda server: vision_pb2_grpc.add_VisionServiceServicer_to_server(servicer, server))
    server = RpcServer("127.0.0.1", 0, [added])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Service(host, servicer, vision_pb2_grpc.VisionServiceStub(channel))
    await server.drain(0)
    await host.stop(5)
    opener.close()


def png(colour: str = "red", size: tuple[int, int] = (40, 20)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def chunks(*files: bytes, piece_bytes: int = 50) -> Iterator[pb.ImageChunk]:
    for index, data in enumerate(files):
        for start in range(0, len(data), piece_bytes) or [0]:
            yield pb.ImageChunk(index=index, data=data[start : start + piece_bytes])


def turn(
    *parts: str | int | bytes | chat_pb2.ImagePart, role: chat_pb2.Role.ValueType = chat_pb2.ROLE_USER
) -> chat_pb2.Message:
    """A turn of texts, numbers of uploads, and pictures within."""
    content = []
    for part in parts:
        match part:
            case str():
                content.append(chat_pb2.ContentPart(text=part))
            case int():
                content.append(chat_pb2.ContentPart(image=chat_pb2.ImagePart(upload_index=part)))
            case bytes():
                content.append(chat_pb2.ContentPart(image=chat_pb2.ImagePart(data=part)))
            case _:
                content.append(chat_pb2.ContentPart(image=part))
    return chat_pb2.Message(role=role, content=content)


def conversation(*turns: chat_pb2.Message, model: str = "tiny", **fields: Any) -> pb.DescribeRequest:
    context = common_pb2.RequestContext(model=model)
    return pb.DescribeRequest(conversation=chat_pb2.ChatRequest(context=context, messages=turns, **fields))


def upload(*files: bytes, piece_bytes: int = 50) -> list[pb.DescribeRequest]:
    return [pb.DescribeRequest(image_chunk=chunk) for chunk in chunks(*files, piece_bytes=piece_bytes)]


async def told(call: Any) -> list[pb.DescribeResponse]:
    return [response async for response in call]


def text_of(responses: Iterable[pb.DescribeResponse], choice: int = 0) -> str:
    deltas = [delta for response in responses for delta in response.answer.deltas]
    return "".join(delta.content for delta in deltas if delta.choice == choice).strip()


async def fault_of(call: Any) -> RpcFault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await told(call)
    return from_rpc_error(caught.value)


async def eventually(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  what is waited for is another process's doing
            await asyncio.sleep(0.02)


async def test_uploaded_and_inline_pictures_reach_the_model_in_order_in_any_turn(service: Service) -> None:
    asked = conversation(
        turn("Look at", 1, "and", png("blue", (10, 10))),
        turn("Nice.", role=chat_pb2.ROLE_ASSISTANT),
        turn(0, "again"),
    )
    responses = await told(service.describe([*upload(png(), png("lime", (30, 30))), asked]))
    expected = "Look at <30x30 00ff00> and <10x10 0000ff> Nice. <40x20 ff0000> again"
    assert text_of(responses) == expected
    usage = responses[-1].answer.usage
    assert (usage.image_tokens, usage.prompt_tokens) == (3 * looker.IMAGE_TOKENS, 3 * looker.IMAGE_TOKENS + 5)
    assert (usage.cached_tokens, usage.completion_tokens) == (2, 3)
    assert responses[-1].answer.timings.decode_s > 0
    await eventually(lambda: service.held_bytes() == 0)


async def test_progress_counts_pictures_and_comes_before_the_answer(service: Service) -> None:
    responses = await told(service.describe([conversation(turn(png(), png("blue")), options={"choices": 2})]))
    kinds = [response.WhichOneof("event") for response in responses]
    encoding = [response.encoding for response in responses if response.WhichOneof("event") == "encoding"]
    assert [(one.step, one.steps) for one in encoding] == [(1, 2), (2, 2)]
    assert [one.fraction for one in encoding] == [0.5, 1.0]
    assert kinds.index("answer") > kinds.index("encoding")
    assert text_of(responses, 0) == text_of(responses, 1) != ""


async def test_a_conversation_without_pictures_is_as_good(service: Service) -> None:
    responses = await told(service.describe([conversation(turn("Hello there"))]))
    assert text_of(responses) == "Hello there"
    assert {response.WhichOneof("event") for response in responses} == {"answer"}
    assert responses[-1].answer.usage.image_tokens == 0


async def test_detail_decides_how_large_a_picture_is_shown(service: Service) -> None:
    data = png(size=(1200, 600))
    parts = [
        chat_pb2.ImagePart(upload_index=0, detail=detail)
        for detail in (chat_pb2.IMAGE_DETAIL_LOW, chat_pb2.IMAGE_DETAIL_HIGH, chat_pb2.IMAGE_DETAIL_UNSPECIFIED)
    ]
    responses = await told(service.describe([*upload(data, piece_bytes=5000), conversation(turn(*parts))]))
    assert text_of(responses) == " ".join(["<100x50 ff0000>"] * 3), "this service shows 100 pixels at most"
    unknown: Any = 9
    fault = await fault_of(service.describe([conversation(turn(chat_pb2.ImagePart(data=data, detail=unknown)))]))
    assert fault.details["param"] == "messages[0].content[0]"


async def test_tokens_are_counted_with_their_pictures(service: Service) -> None:
    asked = conversation(turn("What is", 0, "this?")).conversation
    messages = [pb.CountTokensRequest(image_chunk=chunk) for chunk in chunks(png())]
    messages.append(pb.CountTokensRequest(conversation=asked))
    call: Any = service.stub.CountTokens(iter(messages), timeout=LIMIT_S)
    counted = await call
    assert (counted.prompt_tokens, counted.image_tokens, counted.context_length) == (13, 10, 512)


async def test_options_are_judged_as_in_chat(service: Service) -> None:
    for fields, param in (
        ({"options": {"temperature": 9}}, "temperature"),
        ({"options": {"choices": looker.SLOTS + 1}}, "n"),
        ({"tools": [{"name": "f"}]}, "tools"),
    ):
        fault = await fault_of(service.describe([conversation(turn(png()), **fields)]))
        assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, param)
    fault = await fault_of(service.describe([conversation()]))
    assert fault.details["param"] == "messages"
    sound = chat_pb2.Message(
        role=chat_pb2.ROLE_USER, content=[chat_pb2.ContentPart(audio=chat_pb2.AudioPart(data=b"x"))]
    )
    assert "text and pictures" in (await fault_of(service.describe([conversation(sound)]))).message


async def test_an_upload_must_keep_to_its_order(service: Service) -> None:
    first, second = (pb.ImageChunk(index=index, data=png()) for index in (0, 1))
    asked = conversation(turn(0))
    for pieces in ([second], [first, second, first], [pb.ImageChunk(index=7, data=b"x")]):
        messages = [*(pb.DescribeRequest(image_chunk=piece) for piece in pieces), asked]
        assert "one after another" in (await fault_of(service.describe(messages))).message
    assert "missing" in (await fault_of(service.describe(upload(png())))).message
    assert "missing" in (await fault_of(service.describe([]))).message
    assert (await fault_of(service.describe([pb.DescribeRequest(), asked]))).details["param"] == "message"


async def test_what_an_image_part_shows_must_be_there(service: Service) -> None:
    fault = await fault_of(service.describe([*upload(png()), conversation(turn("a", 1))]))
    assert fault.details["param"] == "messages[0].content[1]"
    fault = await fault_of(service.describe([conversation(turn(chat_pb2.ImagePart()))]))
    assert fault.details["param"] == "messages[0].content[0]"


async def test_an_upload_has_limits(service: Service) -> None:
    asked = conversation(turn(0))
    many = await fault_of(service.describe([*upload(*[png()] * 4), asked]))
    assert (many.code, many.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "image_chunk")
    assert f"At most {MOST_PICTURES}" in many.message
    shown_often = await fault_of(service.describe([*upload(png()), conversation(turn(0, 0, 0, 0))]))
    assert shown_often.details["param"] == "messages[0].content[3]"
    large = await fault_of(service.describe([*upload(bytes(UPLOAD_BYTES + 1), piece_bytes=2**16), asked]))
    assert "bytes together" in large.message
    piece = pb.DescribeRequest(image_chunk=pb.ImageChunk(index=0, data=bytes(2**20 + 1)))
    assert "A piece" in (await fault_of(service.describe([piece, asked]))).message
    await eventually(lambda: service.held_bytes() == 0)


async def test_an_upload_that_does_not_end_is_given_up(service: Service) -> None:
    async def slowly() -> AsyncIterator[pb.DescribeRequest]:
        yield upload(png())[0]
        await asyncio.sleep(LIMIT_S)

    messages: Any = slowly()
    fault = await fault_of(service.stub.Describe(messages, timeout=LIMIT_S))
    assert fault.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "uploaded" in fault.message
    assert service.held_bytes() == 0


async def test_pictures_of_all_requests_together_stay_within_the_room(service: Service) -> None:
    sent = asyncio.Event()
    over = asyncio.Event()

    async def slowly() -> AsyncIterator[pb.DescribeRequest]:
        for message in upload(bytes(250_000), piece_bytes=2**16):
            yield message
        sent.set()
        await over.wait()

    messages: Any = slowly()
    first = service.stub.Describe(messages, timeout=LIMIT_S)
    await sent.wait()
    await eventually(lambda: service.held_bytes() >= 250_000)
    crowded = await fault_of(service.describe([*upload(bytes(250_000), piece_bytes=2**16), conversation(turn(0))]))
    assert (crowded.code, crowded.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert crowded.retry_after_s is not None
    first.cancel()
    over.set()
    await eventually(lambda: service.held_bytes() == 0)
    assert text_of(await told(service.describe([*upload(png()), conversation(turn(0))]))) == "<40x20 ff0000>"


async def test_hostile_files_are_refused_by_name_and_the_service_lives_on(service: Service) -> None:
    model = await service.model()
    noise = Image.frombytes("RGB", (64, 64), random.Random(1).randbytes(64 * 64 * 3))
    stream = io.BytesIO()
    noise.save(stream, "JPEG")
    hostile = (b"", b"<svg/>", b"PK\x03\x04" + png(), stream.getvalue()[:900], png(size=(3000, 3000))[:60])
    before_bytes = psutil.Process().memory_info().rss
    for data in hostile:
        fault = await fault_of(service.describe([*upload(data), conversation(turn("Look", 0))]))
        assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PICTURE_INVALID")
        assert fault.details["param"] == "messages[0].content[1]"
    assert psutil.Process().memory_info().rss - before_bytes < 100 * 2**20
    assert text_of(await told(service.describe([conversation(turn(png()))]))) == "<40x20 ff0000>"
    assert await service.model() is model


async def test_an_engine_that_cannot_look_at_a_picture_says_so(service: Service) -> None:
    fault = await fault_of(service.describe([conversation(turn("refuse-me", png()))]))
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PICTURE_INVALID")


async def test_the_event_loop_goes_on_while_pictures_are_opened(service: Service) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(stream, "PNG", compress_level=9)
    call = asyncio.create_task(told(service.describe([conversation(turn(*[stream.getvalue()] * 3))])))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert text_of(call.result()) == " ".join(["<100x100 000000>"] * 3)
    assert turns > 10, "decoding on the loop would leave it a handful"


async def test_a_cancelled_call_gives_its_slot_and_its_room_back(service: Service) -> None:
    model = await service.model()
    call = service.describe([*upload(png()), conversation(turn(0, "never-ends"))])
    async for response in call:
        if "never-ends" in text_of([response]):
            break
    assert model.gate.slots_used == 1
    assert service.held_bytes() == 40 * 20 * 3, "the file itself is not kept"
    call.cancel()
    await eventually(lambda: model.gate.slots_used == 0 and service.held_bytes() == 0)
    await eventually(lambda: model.worker.gauges["running"] == 0)


async def test_a_deadline_ends_the_answer(service: Service) -> None:
    model = await service.model()
    fault = await fault_of(service.describe([conversation(turn(png(), "never-ends"))], timeout_s=1))
    assert fault.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: model.gate.slots_used == 0 and service.held_bytes() == 0)


async def test_unknown_models_are_not_found(service: Service) -> None:
    fault = await fault_of(service.describe([conversation(turn(png()), model="other")]))
    assert fault.reason == "MODEL_NOT_FOUND"
    fault = await fault_of(service.describe([conversation(turn(png()), model="")]))
    assert fault.details["param"] == "model"
