"""Who answers the contract tests: a gateway in front of fakes, always, and the whole mesh where its services are there."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "gateway"))

from contract_target import Target
from gateway_fakes import fake_fleet

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


def _in_front_of_fakes() -> Iterator[Target]:
    """Runs the fakes in a thread of their own, since the official client blocks."""
    started: list[Target] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with fake_fleet() as fleet:
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
