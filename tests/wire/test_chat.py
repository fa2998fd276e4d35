"""The chat replica's promises to a gRPC client, kept by the real process: happy, cancelled, deadline, draining, killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from mesh import STARTER_MODELS, Mesh, Process, eventually
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza_runtime.errors import from_rpc_error
from trenza_runtime.rpc.channel import open_channel

NAME = "trenza.chat.v1.ChatService"


@pytest.fixture
def replica(own_mesh: Mesh, slow_model: Mapping[str, str]) -> Process:
    """A chat replica all alone: it serves whoever knows its address, scheduler or not."""
    return own_mesh.start_chat("chat-0", TRENZA_CHAT_SLOTS="2", TRENZA_CHAT_QUEUE_LIMIT="1", **slow_model)


@pytest.fixture
async def stub(replica: Process) -> AsyncIterator[chat_pb2_grpc.ChatServiceAsyncStub]:
    channel = open_channel(address_of(replica))
    yield chat_pb2_grpc.ChatServiceStub(channel)
    await channel.close()


def address_of(replica: Process) -> str:
    return f"127.0.0.1:{replica.ports['grpc_port']}"


def asks(text: str = "What is 7 + 5?", model: str = "starter-chat", **options: Any) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(
        context=common_pb2.RequestContext(model=model, request_id="same for all"),
        messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, content=[chat_pb2.ContentPart(text=text)])],
        options=chat_pb2.GenerationOptions(**{"temperature": 0.0, **options}),
    )


def endless() -> chat_pb2.ChatRequest:
    return asks(model="slow", ignore_end=True)


async def answer(call: AsyncIterable[chat_pb2.ChatResponse]) -> tuple[str, chat_pb2.ChatResponse]:
    text, last = "", chat_pb2.ChatResponse()
    async for last in call:
        text += "".join(delta.content for delta in last.deltas)
    return text, last


async def read_to_the_end(call: grpc.aio.UnaryStreamCall[chat_pb2.ChatRequest, chat_pb2.ChatResponse]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_happy(stub: chat_pb2_grpc.ChatServiceAsyncStub) -> None:
    text, last = await answer(stub.Chat(asks()))
    assert "12" in text
    assert last.usage.prompt_tokens > 0
    assert last.usage.completion_tokens > 0
    assert last.timings.prefill_s > 0
    counted = await stub.CountTokens(chat_pb2.CountTokensRequest(context=asks().context, messages=asks().messages))
    assert counted.prompt_tokens == last.usage.prompt_tokens
    continued = [
        message async for message in stub.Complete(chat_pb2.CompleteRequest(context=asks().context, text="One"))
    ]
    assert continued[-1].usage.completion_tokens > 0


async def test_several_choices_share_the_replica(stub: chat_pb2_grpc.ChatServiceAsyncStub) -> None:
    finished = set()
    async for message in stub.Chat(asks(choices=2, seed=1, temperature=1.0)):
        finished |= {delta.choice for delta in message.deltas if delta.finish_reason}
    assert finished == {0, 1}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(stub.Chat(asks(choices=3)))
    assert from_rpc_error(caught.value).details["param"] == "n"


async def test_cancelled(stub: chat_pb2_grpc.ChatServiceAsyncStub, replica: Process) -> None:
    calls = [stub.Chat(endless()) for _ in range(2)]
    for call in calls:
        await call.read()
    for call in calls:
        call.cancel()
    # Both slots are free again, or these would wait behind streams of thousands of tokens.
    await asyncio.wait_for(asyncio.gather(*(answer(stub.Chat(asks(model="slow", max_tokens=1))) for _ in range(2))), 20)


async def test_deadline(stub: chat_pb2_grpc.ChatServiceAsyncStub) -> None:
    call = stub.Chat(endless(), timeout=1.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(call)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(answer(stub.Chat(asks(model="slow", max_tokens=1))), 20)


async def test_full(stub: chat_pb2_grpc.ChatServiceAsyncStub) -> None:
    """Two slots, one waits, the fourth is refused and told when to come back."""
    running = [stub.Chat(endless()) for _ in range(2)]
    for call in running:
        await call.read()
    waiting = asyncio.create_task(answer(stub.Chat(asks(model="slow", max_tokens=1))))
    await asyncio.sleep(0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(stub.Chat(endless()))
    fault = from_rpc_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert fault.retry_after_s is not None
    assert not waiting.done()
    running[0].cancel()
    await asyncio.wait_for(waiting, 20)
    running[1].cancel()


async def test_draining(stub: chat_pb2_grpc.ChatServiceAsyncStub, replica: Process) -> None:
    running = asyncio.create_task(answer(stub.Chat(asks(model="slow", max_tokens=60, ignore_end=True))))
    await asyncio.sleep(0.5)
    replica.popen.terminate()
    await asyncio.sleep(0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(stub.Chat(asks()))
    assert from_rpc_error(caught.value).reason in ("DRAINING", "UNAVAILABLE")
    _, last = await asyncio.wait_for(running, 30)
    assert last.usage.completion_tokens == 60
    assert await asyncio.to_thread(replica.popen.wait, 30) == 0


async def test_killed(stub: chat_pb2_grpc.ChatServiceAsyncStub, replica: Process) -> None:
    call = stub.Chat(endless())
    await call.read()
    workers = [*replica.workers("slow"), *replica.workers("starter-chat")]
    assert workers
    replica.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_to_the_end(call)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    eventually(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


async def test_wrong_requests_are_told_what_is_wrong(stub: chat_pb2_grpc.ChatServiceAsyncStub) -> None:
    wrong = {
        "MODEL_NOT_FOUND": asks(model="nope"),
        "INVALID_ARGUMENT": asks(model=""),
        "CONTEXT_LENGTH_EXCEEDED": asks("one two three " * 3000),
        "INVALID_GRAMMAR": chat_pb2.ChatRequest(
            context=asks().context,
            messages=asks().messages,
            response_format=chat_pb2.ResponseFormat(grammar=chat_pb2.GrammarFormat(gbnf="root ::= (((")),
        ),
        "UNSUPPORTED": chat_pb2.ChatRequest(
            context=asks().context, messages=asks().messages, tools=[chat_pb2.Tool(name="f")]
        ),
    }
    for reason, request in wrong.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(stub.Chat(request))
        assert from_rpc_error(caught.value).reason == reason
    text, _ = await answer(stub.Chat(asks()))
    assert "12" in text


async def test_health_reflection_and_catalogue(replica: Process) -> None:
    with grpc.insecure_channel(address_of(replica)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", NAME):
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert NAME in ProtoReflectionDescriptorDatabase(channel).get_services()
        models = common_pb2_grpc.ModelServiceStub(channel).ListModels(common_pb2.ListModelsRequest()).models
        assert [model.name for model in models] == ["slow", "starter-chat"]


async def test_broken_models_are_told_and_harm_nobody(own_mesh: Mesh, tmp_path: Path) -> None:
    root = tmp_path / "models"
    root.mkdir()
    (root / "starter-chat").symlink_to(STARTER_MODELS / "starter-chat")
    good = (STARTER_MODELS / "starter-chat" / "starter-chat.gguf").read_bytes()
    for name, content in {"truncated": good[: len(good) // 2], "garbage": b"\x00" * 5000, "empty": b""}.items():
        (root / name).mkdir()
        (root / name / "model.gguf").write_bytes(content)
        (root / name / "model.toml").write_text(
            f'name = "{name}"\nmodality = "chat"\nengine = "llama"\n[files]\nmodel = "model.gguf"\n'
        )
    replica = own_mesh.start_chat("chat-0", TRENZA_CHAT_MODELS_ROOT=str(root), TRENZA_CHAT_PRELOAD="starter-chat")
    async with open_channel(address_of(replica)) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        for name in ("truncated", "garbage", "empty"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer(stub.Chat(asks(model=name)))
            fault = from_rpc_error(caught.value)
            assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_LOAD_FAILED")
            assert name in fault.message
        text, _ = await answer(stub.Chat(asks()))
        assert "12" in text
