"""ImagesService over gRPC: dispatched like HTTP requests, uploads passed on as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from fleet_fakes import eventually
from grpc_health.v1 import health_pb2, health_pb2_grpc
from images_fakes import (
    BAD_SIZE,
    CRASH,
    DRAWS,
    FakeImagesReplica,
    ImagesFleet,
    failing,
    images_fleet,
    picture,
    silent,
)
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2, images_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error


@pytest.fixture
async def images() -> AsyncIterator[ImagesFleet]:
    async with images_fleet() as running:
        yield running


@asynccontextmanager
async def door(fleet: ImagesFleet) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(fleet.grpc_address) as channel:
        yield images_pb2_grpc.ImagesServiceStub(channel)


def generation(model: str = DRAWS, **context: Any) -> images_pb2.GenerateRequest:
    return images_pb2.GenerateRequest(
        context=common_pb2.RequestContext(model=model, **context),
        prompt="a red circle",
        options=images_pb2.DrawingOptions(count=2, width=512, height=256),
    )


async def edit(*pictures: bytes, **context: Any) -> AsyncIterator[images_pb2.EditRequest]:
    said = common_pb2.RequestContext(model=DRAWS, **context)
    config = images_pb2.EditConfig(context=said, prompt="a star", options=images_pb2.DrawingOptions(count=1))
    yield images_pb2.EditRequest(config=config)
    for index, content in enumerate(pictures):
        chunk = images_pb2.UploadChunk(index=index, role=images_pb2.IMAGE_ROLE_SOURCE, data=content)
        yield images_pb2.EditRequest(chunk=chunk)


async def drawn(call: Any) -> list[bytes]:
    """The finished pictures of an answer."""
    found: dict[int, bytes] = {}
    async for message in call:
        chunk = message.event.image
        if chunk.data:
            found[chunk.index] = found.get(chunk.index, b"") + chunk.data
    return [content for _, content in sorted(found.items())]


async def fault_of(call: Any) -> RpcFault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await drawn(call)
    return from_rpc_error(caught.value)


async def test_generate(images: ImagesFleet) -> None:
    async with door(images) as stub:
        messages = [message async for message in stub.Generate(generation(lease_id="forged", tenant="forged"))]
    assert messages[0].event.progress.fraction == 0.5
    assert messages[-1].event.summary.images == 2
    [asked] = images.replicas[0].asked
    assert (asked.context.lease_id, asked.context.tenant) == ("lease-1", "anonymous")
    assert images.scheduler.tickets[0].size_estimate == 512
    assert images.scheduler.tickets[0].slots == 2
    await eventually(lambda: images.outcomes() == ["OUTCOME_COMPLETED"])


async def test_edit(images: ImagesFleet) -> None:
    async with door(images) as stub:
        assert await drawn(stub.Edit(edit(b"one", b"two"))) == [picture()]
    assert [upload.content for upload in images.replicas[0].asked[0].uploads] == [b"one", b"two"]


async def test_vary(images: ImagesFleet) -> None:
    async def requests() -> AsyncIterator[images_pb2.VaryRequest]:
        context = common_pb2.RequestContext(model=DRAWS, priority=common_pb2.PRIORITY_CLASS_URGENT)
        options = images_pb2.DrawingOptions(count=3)
        yield images_pb2.VaryRequest(config=images_pb2.VaryConfig(context=context, options=options))
        yield images_pb2.VaryRequest(chunk=images_pb2.UploadChunk(data=b"one"))

    async with door(images) as stub:
        assert await drawn(stub.Vary(requests())) == [picture(index) for index in range(3)]
    assert images.scheduler.tickets[0].priority == common_pb2.PRIORITY_CLASS_URGENT


async def test_faults_reach_the_caller(images: ImagesFleet) -> None:
    async with door(images) as stub:
        fault = await fault_of(stub.Generate(generation("gpt-9")))
        assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND)
        assert (await fault_of(stub.Generate(generation("")))).details["param"] == "context.model"
        images.replicas[0].script = failing(BAD_SIZE)
        assert (await fault_of(stub.Generate(generation()))).details["param"] == "size"
        assert (await fault_of(stub.Edit(edit(b"one")))).details["param"] == "size"


async def test_an_upload_without_its_configuration(images: ImagesFleet) -> None:
    async def requests() -> AsyncIterator[images_pb2.EditRequest]:
        yield images_pb2.EditRequest(chunk=images_pb2.UploadChunk(data=b"one"))

    async with door(images) as stub:
        fault = await fault_of(stub.Edit(requests()))
    assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "config")


async def test_another_replica_gets_the_whole_upload() -> None:
    async with images_fleet(FakeImagesReplica("images-0", failing(CRASH)), FakeImagesReplica("images-1")) as images:
        images.scheduler.leases["taken"] = "images-1"
        async with door(images) as stub:
            assert await drawn(stub.Edit(edit(b"one", b"two"))) == [picture()]
        assert [upload.content for upload in images.replicas[1].asked[0].uploads] == [b"one", b"two"]


async def test_a_caller_who_leaves(images: ImagesFleet) -> None:
    images.replicas[0].script = silent
    async with door(images) as stub:
        call = stub.Generate(generation())
        assert (await anext(aiter(call))).event.progress.fraction
        call.cancel()
        await eventually(lambda: images.replicas[0].cancelled == 1)
    await eventually(lambda: images.outcomes() == ["OUTCOME_CANCELLED"])


async def test_a_deadline(images: ImagesFleet) -> None:
    images.replicas[0].script = silent
    async with door(images) as stub:
        call = stub.Generate(generation(), timeout=0.5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(drawn(call), 10)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: images.replicas[0].cancelled == 1)


async def test_it_is_registered(images: ImagesFleet) -> None:
    async with grpc.aio.insecure_channel(images.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="trenza.images.v1.ImagesService"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
