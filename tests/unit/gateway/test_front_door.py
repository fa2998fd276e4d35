"""The gRPC side: the same requests, dispatched the same way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fleet_fakes import eventually
from gateway_fakes import MODEL, FakeFleet, failing, fake_fleet
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scheduler_fakes import refusing, waiting
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error


def chat_request(content: str = "hello there", model: str = MODEL, **context: object) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(
        context=common_pb2.RequestContext(model=model, **context),  # type: ignore[arg-type]
        messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, content=[chat_pb2.ContentPart(text=content)])],
    )


@asynccontextmanager
async def door(fleet: FakeFleet) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(fleet.grpc_address) as channel:
        yield channel


async def fault_of(call: object) -> RpcFault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [message async for message in call]  # type: ignore[attr-defined]
    return from_rpc_error(caught.value)


async def test_a_conversation(fleet: FakeFleet) -> None:
    async with door(fleet) as channel:
        call = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_request("one two", lease_id="forged", tenant="forged"))
        messages = [message async for message in call]
    assert "".join(delta.content for message in messages for delta in message.deltas) == "one two"
    assert messages[-1].usage.prompt_tokens == 10
    seen = fleet.replicas[0].requests[0].context
    assert (seen.lease_id, seen.tenant) == ("lease-1", "anonymous")
    assert seen.request_id == fleet.scheduler.tickets[0].request_id != ""
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_COMPLETED"])


async def test_the_other_calls(fleet: FakeFleet) -> None:
    async with door(fleet) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.CompleteRequest(context=common_pb2.RequestContext(model=MODEL), text="x")
        messages = [message async for message in stub.Complete(request)]
        assert "".join(delta.text for message in messages for delta in message.deltas) == " and on"
        count = await stub.CountTokens(
            chat_pb2.CountTokensRequest(
                context=common_pb2.RequestContext(model=MODEL), messages=chat_request().messages
            )
        )
        assert (count.prompt_tokens, count.context_length) == (1, 512)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(chat_pb2.EmbedRequest(context=common_pb2.RequestContext(model=MODEL)))
        assert from_rpc_error(caught.value).reason == Reason.UNSUPPORTED
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_COMPLETED"] * 2)


async def test_models(fleet: FakeFleet) -> None:
    async with door(fleet) as channel:
        stub = common_pb2_grpc.ModelServiceStub(channel)
        assert [m.name for m in (await stub.ListModels(common_pb2.ListModelsRequest())).models] == [MODEL]
        images = common_pb2.ListModelsRequest(modality=common_pb2.MODALITY_IMAGES)
        assert not (await stub.ListModels(images)).models
        assert (await stub.GetModel(common_pb2.GetModelRequest(name=MODEL))).model.context_length == 512
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModel(common_pb2.GetModelRequest(name="gpt-9"))
        assert from_rpc_error(caught.value).reason == Reason.MODEL_NOT_FOUND


async def test_errors_have_reasons(fleet: FakeFleet) -> None:
    async with door(fleet) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        fault = await fault_of(stub.Chat(chat_request(model="gpt-9")))
        assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND)
        assert (await fault_of(stub.Chat(chat_request(model="")))).code is grpc.StatusCode.INVALID_ARGUMENT
        fleet.scheduler.policy = refusing(scheduler_pb2.REFUSAL_REASON_QUEUE_FULL, retry_after_ms=1500)
        fault = await fault_of(stub.Chat(chat_request()))
        assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL)
        assert fault.retry_after_s == 1.5
        fleet.scheduler.policy = None
        fleet.replicas[0].script = failing(RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, "x"), after=1)
        assert (await fault_of(stub.Chat(chat_request()))).reason == Reason.ENGINE_CRASHED


async def test_cancelling_gives_the_place_back(fleet: FakeFleet) -> None:
    fleet.scheduler.policy = waiting
    async with door(fleet) as channel:
        call = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_request())
        await eventually(lambda: fleet.scheduler.tickets)
        call.cancel()
        await eventually(lambda: fleet.scheduler.cancellations)


async def test_the_callers_deadline_counts(fleet: FakeFleet) -> None:
    async with door(fleet) as channel:
        call = chat_pb2_grpc.ChatServiceStub(channel).Chat(chat_request(), timeout=2.0)
        _ = [message async for message in call]
    assert fleet.replicas[0].deadlines_s[0] <= 2.1  # gRPC rounds up
    assert fleet.scheduler.tickets[0].wait_limit_ms <= 2100


async def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"ann:{hashlib.sha256(b'secret').hexdigest()}\n")
    async with fake_fleet(api_keys_file=path) as fleet, door(fleet) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        assert (await fault_of(stub.Chat(chat_request()))).code is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError):
            await common_pb2_grpc.ModelServiceStub(channel).ListModels(common_pb2.ListModelsRequest())
        call = stub.Chat(chat_request(), metadata=(("authorization", "Bearer secret"), ("x-request-id", "mine")))
        assert [message async for message in call]
        assert fleet.scheduler.tickets[0].tenant == "ann"
        assert fleet.scheduler.tickets[0].request_id.startswith("mine.")


async def test_health_needs_no_key(fleet: FakeFleet) -> None:
    async with door(fleet) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "trenza.chat.v1.ChatService", "trenza.common.v1.ModelService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
