"""The server's promises, seen from a client: rich errors, health, drain, deadlines, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcServer, RpcService

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

    async def __aenter__(self) -> Served:
        self.talker = Talker()
        service = RpcService(NAME, lambda s: chat_pb2_grpc.add_ChatServiceServicer_to_server(self.talker, s))
        self.server = RpcServer("127.0.0.1", 0, [service])
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
