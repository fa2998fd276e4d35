"""The server's promises, seen from a client: rich errors, health, drain, deadlines, cancellation."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcLimits, RpcServer, RpcService
from trenza_runtime.telemetry.logs import current_request_id

NAME = "trenza.chat.v1.ChatService"


class Talker(chat_pb2_grpc.ChatServiceServicer):
    """Does what the request's model name says."""

    def __init__(self) -> None:
        self.cleaned_up = asyncio.Event()
        self.release = asyncio.Event()

    async def Chat(self, request: chat_pb2.ChatRequest, context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        try:
            match request.context.model:
                case "fault":
                    raise RpcFault(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        Reason.QUEUE_FULL,
                        "Full.",
                        {"limit": "3"},
                        retry_after_s=1.5,
                    )
                case "long-winded":
                    details = {f"{n}" * 500: "ñ" * 5000 for n in range(40)}
                    raise RpcFault(grpc.StatusCode.INTERNAL, "X", "é\ud800🙂" * 9000, details)
                case "says its id":
                    yield chat_pb2.ChatResponse(fingerprint=current_request_id())
                case "bug":
                    raise ZeroDivisionError("secret")
                case "endless":
                    while True:
                        yield chat_pb2.ChatResponse(fingerprint="x")
                        await asyncio.sleep(0.01)
                case "flood":
                    while True:
                        yield chat_pb2.ChatResponse(fingerprint="x" * 100_000)
                case _:
                    yield chat_pb2.ChatResponse(fingerprint="first")
                    await self.release.wait()
                    yield chat_pb2.ChatResponse(fingerprint="last")
        finally:
            self.cleaned_up.set()

    async def CountTokens(self, request: chat_pb2.CountTokensRequest, context: Any) -> chat_pb2.CountTokensResponse:
        return chat_pb2.CountTokensResponse(prompt_tokens=len(request.messages))


class Served:
    """A server with a Talker and a client of it."""

    def __init__(self, limits: RpcLimits | None = None) -> None:
        self.limits = limits

    async def __aenter__(self) -> Served:
        self.talker = Talker()
        service = RpcService(NAME, lambda s: chat_pb2_grpc.add_ChatServiceServicer_to_server(self.talker, s))
        self.server = RpcServer("127.0.0.1", 0, [service], self.limits)
        self.port = await self.server.start()
        self.channel = open_channel(f"127.0.0.1:{self.port}")
        self.stub = chat_pb2_grpc.ChatServiceStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.drain(0)

    def chat(self, behaviour: str, **options: Any) -> Any:
        request = chat_pb2.ChatRequest()
        request.context.model = behaviour
        return self.stub.Chat(request, **options)

    async def health(self, service: str = NAME) -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def read_to_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_fault_crosses_the_wire_whole() -> None:
    async with Served() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat("fault").read()
    fault = from_rpc_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert (fault.message, fault.details, fault.retry_after_s) == ("Full.", {"limit": "3"}, 1.5)


async def test_a_fault_that_says_too_much_is_cut_to_what_headers_can_carry() -> None:
    async with Served() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat("long-winded").read()
    fault = from_rpc_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INTERNAL, "X")
    assert 900 < len(fault.message.encode()) <= 1000
    assert len(fault.details) <= 8
    (status,) = [value for key, value in caught.value.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert isinstance(status, bytes)
    assert len(b64encode(status)) + len(quote(caught.value.details() or "")) < 8000


async def test_a_bug_tells_the_client_nothing_about_itself() -> None:
    async with Served() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat("bug").read()
    assert from_rpc_error(caught.value).reason == "INTERNAL"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("behaviour", ["endless", "flood", "wait"])
async def test_cancelling_cleans_up_at_once(behaviour: str) -> None:
    async with Served() as served:
        call = served.chat(behaviour)
        await call.read()
        assert served.server.in_flight == 1
        call.cancel()
        await asyncio.wait_for(served.talker.cleaned_up.wait(), 2)
        while served.server.in_flight:  # noqa: ASYNC110  nothing there sets an event for it
            await asyncio.sleep(0.01)


async def test_deadline_reaches_the_handler() -> None:
    async with Served() as served:
        call = served.chat("wait", timeout=0.3)
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(served.talker.cleaned_up.wait(), 2)


async def test_calls_are_counted_by_method_and_code() -> None:
    async def outcome(behaviour: str) -> None:
        with suppress(grpc.aio.AioRpcError):
            await read_to_end(served.chat(behaviour))

    def counted(code: str) -> float:
        labels = {"method": f"/{NAME}/Chat", "code": code}
        return REGISTRY.get_sample_value("trenza_rpc_requests_total", labels) or 0

    codes = {"fault": "RESOURCE_EXHAUSTED", "bug": "INTERNAL", "says its id": "OK"}
    async with Served() as served:
        for behaviour, code in codes.items():
            before = counted(code)
            await outcome(behaviour)
            async with asyncio.timeout(2):
                while counted(code) == before:  # noqa: ASYNC110  the count follows the answer by a moment
                    await asyncio.sleep(0.01)


async def test_every_call_has_a_request_id_its_own_or_the_callers() -> None:
    async with Served() as served:
        given = await served.chat("says its id", metadata=(("x-request-id", "abc"),)).read()
        made = await served.chat("says its id").read()
    assert given.fingerprint == "abc"
    assert len(made.fingerprint) == 32


async def test_health_can_be_set_and_watched() -> None:
    status = health_pb2.HealthCheckResponse
    async with Served() as served:
        assert await served.health("") == status.SERVING
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(service=NAME))
        assert (await watch.read()).status == status.SERVING
        served.server.set_serving(NAME, False)
        assert (await asyncio.wait_for(watch.read(), 2)).status == status.NOT_SERVING
        assert await served.health("") == status.SERVING
        served.server.set_serving(NAME, True)
        assert (await asyncio.wait_for(watch.read(), 2)).status == status.SERVING
        watch.cancel()


async def test_reflection_names_the_services() -> None:
    async with Served() as served:
        channel: Any = served.channel  # the stub's types know synchronous channels only
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in (await call.read()).list_services_response.service}
        call.cancel()
    assert {NAME, "grpc.health.v1.Health"} <= names


async def test_calls_beyond_the_limit_are_refused() -> None:
    async with Served(RpcLimits(concurrent_rpcs=2)) as served:
        running = [served.chat("wait") for _ in range(2)]
        for call in running:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.chat("wait").read()
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_idle_stream_survives_more_pings_than_grpc_usually_allows() -> None:
    async with Served() as served:
        options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{served.port}", [*options, ("grpc.http2.max_pings_without_data", 0)]
        ) as channel:
            request = chat_pb2.ChatRequest()
            request.context.model = "wait"
            call = chat_pb2_grpc.ChatServiceStub(channel).Chat(request)
            await call.read()
            await asyncio.sleep(4.5)  # the usual limit is two pings too many
            served.talker.release.set()
            assert (await call.read()).fingerprint == "last"


async def test_drain_lets_running_calls_finish_and_refuses_new_ones() -> None:
    async with Served() as served:
        assert await served.health() == health_pb2.HealthCheckResponse.SERVING
        running = served.chat("wait")
        await running.read()
        drain = asyncio.create_task(served.server.drain(10))
        await asyncio.sleep(0.1)
        assert await served.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.CountTokens(chat_pb2.CountTokensRequest())
        assert (caught.value.code(), from_rpc_error(caught.value).reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        served.talker.release.set()
        assert (await running.read()).fingerprint == "last"
        await asyncio.wait_for(drain, 2)


async def test_drain_cuts_off_at_its_bound() -> None:
    async with Served() as served:
        running = served.chat("endless")
        await running.read()
        await asyncio.wait_for(served.server.drain(0.2), 3)
        with pytest.raises(grpc.aio.AioRpcError):
            await read_to_end(running)
        await asyncio.wait_for(served.talker.cleaned_up.wait(), 2)


async def test_taken_port_is_one_clear_sentence() -> None:
    async with Served() as served:
        with pytest.raises(StartError, match=str(served.port)):
            await RpcServer("127.0.0.1", served.port, []).start()


async def test_unary_call_and_dead_peer() -> None:
    async with Served() as served:
        request = chat_pb2.CountTokensRequest(messages=[chat_pb2.Message()])
        assert (await served.stub.CountTokens(request)).prompt_tokens == 1
        port = served.port
    channel = open_channel(f"127.0.0.1:{port}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(channel).CountTokens(chat_pb2.CountTokensRequest())
    await channel.close()
    assert from_rpc_error(caught.value).reason == "UNAVAILABLE"
