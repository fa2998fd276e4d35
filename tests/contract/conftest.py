"""Who answers the contract tests: a gateway in front of fakes, always, and the whole mesh where its services are there."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from trenza.chat.v1 import chat_pb2
from trenza_runtime.errors import Reason, RpcFault

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "gateway"))

from contract_target import Target
from gateway_fakes import fake_fleet, parrot, text

MESH_PARTS = ("trenza_scheduler.__main__", "trenza_chat.__main__")


@pytest.fixture(scope="session", params=["fakes", "mesh"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The gateway under test."""
    if request.param == "fakes":
        yield from _in_front_of_fakes()
    elif not all(_exists(part) for part in MESH_PARTS):
        pytest.skip("the services of the mesh are not installed here")
    else:
        mesh = request.getfixturevalue("mesh")
        yield Target(mesh.http_url, mesh.grpc_address, parrots=False)


@pytest.fixture
def client(target: Target) -> Iterator[openai.OpenAI]:
    """The official client, as its users make it."""
    with openai.OpenAI(base_url=f"{target.http_url}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


async def parrot_that_may_break_off(
    request: chat_pb2.ChatRequest, context: Any
) -> AsyncIterator[chat_pb2.ChatResponse]:
    """A parrot, except that it fails in the middle of its answer to "break off"."""
    if request.messages[-1].content[0].text == "break off":
        yield text("br")
        raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, "The engine crashed.")
    async for message in parrot(request, context):
        yield message


def _in_front_of_fakes() -> Iterator[Target]:
    """Runs the fakes in a thread of their own, since the official client blocks."""
    started: list[Target] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with fake_fleet() as fleet:
            fleet.replicas[0].script = parrot_that_may_break_off
            started.append(Target(fleet.http_url, fleet.grpc_address, parrots=True))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(20), "the fakes did not start"
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
