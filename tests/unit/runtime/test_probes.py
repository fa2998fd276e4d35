"""The port for probes, over the life of a process."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc.probes import ProbePort

NAMES = ("liveness", "startup", "readiness", "")


async def answers(channel: grpc.aio.Channel) -> str:
    """One letter for each name: y for SERVING."""
    stub = health_pb2_grpc.HealthStub(channel)
    found = [await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5) for name in NAMES]
    return "".join("y" if answer.status == health_pb2.HealthCheckResponse.SERVING else "n" for answer in found)


async def test_over_a_life() -> None:
    ready = False
    probes = ProbePort("127.0.0.1", 0, lambda: ready)
    ports = await probes.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['health_port']}") as channel:
        assert await answers(channel) == "ynnn"
        probes.started()
        assert await answers(channel) == "yynn"
        ready = True
        assert await answers(channel) == "yyyy"
        probes.stopping()
        assert await answers(channel) == "yynn"
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=5)
        await probes.close()
        with pytest.raises(grpc.aio.AioRpcError):
            await answers(channel)


async def test_who_watches_is_told_of_changes() -> None:
    probes = ProbePort("127.0.0.1", 0)
    ports = await probes.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['health_port']}") as channel:
        request = health_pb2.HealthCheckRequest(service="readiness")
        watching = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=20)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        asyncio.get_running_loop().call_later(0.05, probes.started)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()
    await probes.close()


async def test_none_and_a_port_that_is_taken() -> None:
    assert await ProbePort("127.0.0.1", -1).start() == {}
    first = ProbePort("127.0.0.1", 0)
    port = (await first.start())["health_port"]
    with pytest.raises(StartError, match="cannot listen"):
        await ProbePort("127.0.0.1", port).start()
    await first.close()
