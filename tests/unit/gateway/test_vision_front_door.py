"""VisionService over gRPC: pictures first, then the conversation, dispatched like HTTP requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from fleet_fakes import eventually
from gateway_fakes import MODEL
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2, vision_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error
from vision_fakes import (
    CRASH,
    IMAGE_TOKENS,
    NO_PICTURE,
    SEES,
    FakeVisionReplica,
    Seen,
    VisionFleet,
    failing,
    picture,
    said,
    vision_fleet,
)

DescribeRequest = vision_pb2.DescribeRequest


@pytest.fixture
async def fleet() -> AsyncIterator[VisionFleet]:
    async with vision_fleet() as running:
        yield running


@asynccontextmanager
async def door(fleet: VisionFleet) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(fleet.grpc_address) as channel:
        yield vision_pb2_grpc.VisionServiceStub(channel)


def conversation(*numbers: int, model: str = SEES, **context: Any) -> chat_pb2.ChatRequest:
    """A question about the uploaded pictures of those numbers."""
    parts = [chat_pb2.ContentPart(image=chat_pb2.ImagePart(upload_index=number)) for number in numbers]
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, content=[chat_pb2.ContentPart(text="?"), *parts])
    return chat_pb2.ChatRequest(context=common_pb2.RequestContext(model=model, **context), messages=[message])


def chunks(index: int, content: bytes, size_bytes: int = 300) -> Iterable[vision_pb2.ImageChunk]:
    """A picture in small pieces."""
    for start in range(0, len(content), size_bytes):
        media = None if start else common_pb2.MediaDescription(media_type="image/webp")
        yield vision_pb2.ImageChunk(index=index, media=media, data=content[start : start + size_bytes])


async def upload(said: chat_pb2.ChatRequest, *pictures: bytes, kind: Any = DescribeRequest) -> AsyncIterator[Any]:
    for index, content in enumerate(pictures):
        for chunk in chunks(index, content):
            yield kind(image_chunk=chunk)
    yield kind(conversation=said)


async def messages(*given: DescribeRequest) -> AsyncIterator[DescribeRequest]:
    for message in given:
        yield message


async def fault_of(call: Any) -> RpcFault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return from_rpc_error(caught.value)


async def test_an_answer(fleet: VisionFleet) -> None:
    async with door(fleet) as vision:
        asked = conversation(0, 1, tenant="somebody else", lease_id="stolen", request_id="mine")
        answers = [message async for message in vision.Describe(upload(asked, picture("cat"), picture("dog", 50)))]
    assert [message.encoding.step for message in answers if message.HasField("encoding")] == [1, 2]
    text = "".join(delta.content for message in answers for delta in message.answer.deltas)
    assert text == " I see [1000, 50]"
    assert answers[-1].answer.usage.image_tokens == 2 * IMAGE_TOKENS
    [seen] = fleet.eyes[0].seen
    assert seen.pictures == [picture("cat"), picture("dog", 50)]
    assert [media.media_type for media in seen.media] == ["image/webp"] * 2
    assert seen.conversation.context.tenant == "anonymous"
    assert seen.conversation.context.lease_id not in ("", "stolen")
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_COMPLETED"])
    assert fleet.scheduler.tickets[0].prefix_hashes


async def test_tokens_are_counted(fleet: VisionFleet) -> None:
    async with door(fleet) as vision:
        request = upload(conversation(0), picture(), kind=vision_pb2.CountTokensRequest)
        counted = await vision.CountTokens(request)
    assert (counted.prompt_tokens, counted.image_tokens) == (10 + IMAGE_TOKENS, IMAGE_TOKENS)
    assert fleet.eyes[0].seen[0].pictures == [picture()]
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_COMPLETED"])


async def test_another_replica_gets_the_whole_upload() -> None:
    first, second = FakeVisionReplica("vision-0"), FakeVisionReplica("vision-1")
    first.refusal = CRASH
    async with vision_fleet(first, second) as fleet, door(fleet) as vision:
        large = picture(size_bytes=2_500_000)
        call = vision.Describe(messages(*_in_large_pieces(large), DescribeRequest(conversation=conversation(0))))
        assert [message async for message in call]
        assert second.seen[0].pictures == [large]
        assert second.seen[0].largest_piece_bytes == 2**20


def _in_large_pieces(content: bytes) -> Iterable[DescribeRequest]:
    return (DescribeRequest(image_chunk=chunk) for chunk in chunks(0, content, 2**20 - 7))


class TestWrongUploads:
    async def test_each_is_told(self, fleet: VisionFleet) -> None:
        chunk = vision_pb2.ImageChunk
        asked = DescribeRequest(conversation=conversation(0))
        cases: list[tuple[list[DescribeRequest], str, str]] = [
            ([], "conversation", "missing"),
            ([DescribeRequest(image_chunk=chunk(data=b"x"))], "conversation", "missing"),
            ([DescribeRequest(), asked], "message", "Each message"),
            ([DescribeRequest(image_chunk=chunk(index=1, data=b"x")), asked], "image_chunk", "one after another"),
            ([DescribeRequest(image_chunk=chunk(index=0)), asked], "image_chunk", "empty"),
            (
                [DescribeRequest(image_chunk=chunk(data=b"x" * (2**20 + 1))), asked],
                "image_chunk",
                "has at most 1048576 bytes",
            ),
            (
                [*(DescribeRequest(image_chunk=chunk(index=n, data=b"x")) for n in range(17)), asked],
                "image_chunk",
                "16 pictures",
            ),
        ]
        async with door(fleet) as vision:
            for given, param, words in cases:
                fault = await fault_of(vision.Describe(messages(*given)))
                assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, param)
                assert words in fault.message
        assert not fleet.scheduler.tickets

    async def test_too_large(self) -> None:
        async with vision_fleet(picture_limit_bytes=2000, pictures_limit_bytes=3000) as fleet, door(fleet) as vision:
            fault = await fault_of(vision.Describe(upload(conversation(0), picture(size_bytes=2001))))
            assert "A picture must be at most 2000 bytes." in fault.message
            pictures = picture("a", 1800), picture("b", 1800)
            fault = await fault_of(vision.Describe(upload(conversation(0, 1), *pictures)))
            assert "at most 3000 bytes together" in fault.message

    async def test_all_uploads_together_are_bounded(self) -> None:
        async with vision_fleet(bodies_limit_bytes=10_000) as fleet, door(fleet) as vision:
            fault = await fault_of(vision.Describe(upload(conversation(0), picture(size_bytes=20_000))))
            assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL)
            for _ in range(5):
                assert [message async for message in vision.Describe(upload(conversation(0), picture(size_bytes=5000)))]

    async def test_a_model_that_cannot_see(self, fleet: VisionFleet) -> None:
        async with door(fleet) as vision:
            fault = await fault_of(vision.Describe(upload(conversation(0, model=MODEL), picture())))
        assert (fault.reason, fault.details["param"]) == (Reason.PICTURES_UNSUPPORTED, "messages[0].content[1]")
        assert f"These can: {SEES}." in fault.message

    async def test_a_picture_for_the_chat_service(self, fleet: VisionFleet) -> None:
        asked = conversation(model=MODEL)
        asked.messages[0].content.add().image.data = picture()
        async with grpc.aio.insecure_channel(fleet.grpc_address) as channel:
            fault = await fault_of(chat_pb2_grpc.ChatServiceStub(channel).Chat(asked))
        assert (fault.reason, fault.details["param"]) == (Reason.PICTURES_UNSUPPORTED, "messages[0].content[1]")

    async def test_what_the_replica_finds_wrong(self, fleet: VisionFleet) -> None:
        fleet.eyes[0].script = failing(NO_PICTURE)
        async with door(fleet) as vision:
            fault = await fault_of(vision.Describe(upload(conversation(0), picture())))
        assert (fault.reason, fault.details["param"]) == (Reason.PICTURE_INVALID, "messages[0].content[1]")

    async def test_keys(self, tmp_path: Any) -> None:
        path = tmp_path / "keys"
        path.write_text(f"ann:{'0' * 64}\n")
        async with vision_fleet(api_keys_file=path) as fleet, door(fleet) as vision:
            fault = await fault_of(vision.Describe(upload(conversation(0), picture())))
            assert fault.code is grpc.StatusCode.UNAUTHENTICATED


async def test_callers_that_leave_stop_the_work() -> None:
    async def endless(_seen: Seen) -> AsyncIterator[Any]:
        while True:
            yield said("on and ")

    eye = FakeVisionReplica(script=endless)
    async with vision_fleet(eye) as fleet, door(fleet) as vision:
        call = vision.Describe(upload(conversation(0), picture()))
        await anext(aiter(call))
        call.cancel()
        await eventually(lambda: eye.cancelled == 1 and fleet.outcomes() == ["OUTCOME_CANCELLED"])
