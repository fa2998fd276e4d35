"""Replicas' streams, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import from_rpc_error
from trenza_runtime.heartbeat import HeartbeatClient
from unit.scheduler.streams import INTERVAL_S, Gateway, Replica, Running, eventually, running, state


@pytest.fixture
async def scheduler() -> AsyncIterator[Running]:
    async with running() as started:
        yield started


def is_live(view: scheduler_pb2.ReplicaView | None) -> bool:
    return view is not None and view.health == scheduler_pb2.REPLICA_HEALTH_LIVE


def is_suspect(view: scheduler_pb2.ReplicaView | None) -> bool:
    return view is not None and view.health == scheduler_pb2.REPLICA_HEALTH_SUSPECT


async def test_beats_are_acknowledged_and_the_interval_is_told(scheduler: Running) -> None:
    replica = Replica(scheduler)
    for _ in range(3):
        await replica.beat()
    await eventually(lambda: len(replica.heard) == 3)
    assert [answer.acknowledged_sequence for answer in replica.heard] == [1, 2, 3]
    assert {answer.interval_ms for answer in replica.heard} == {int(INTERVAL_S * 1000)}


async def test_a_broken_stream_makes_suspect_at_once_and_a_new_one_heals(scheduler: Running) -> None:
    replica = await Replica.join(scheduler)
    gateway = await Gateway.connect(scheduler)
    await scheduler.until_view("chat-0", is_live)
    await replica.break_off()
    await scheduler.until_view("chat-0", is_suspect)
    await gateway.ask("r1")
    await eventually(lambda: gateway.positions("r1") == [0])
    await Replica.join(scheduler)
    await gateway.grant("r1")


async def test_silence_makes_suspect_though_the_stream_stands(scheduler: Running) -> None:
    replica = await Replica.join(scheduler)
    await replica.fall_silent()
    assert is_live(await scheduler.view("chat-0"))
    await scheduler.until_view("chat-0", is_suspect)
    await replica.beat()
    await scheduler.until_view("chat-0", is_live)


async def test_a_restart_under_the_same_name_voids_the_leases(scheduler: Running) -> None:
    replica = await Replica.join(scheduler, generation=1, slots=1)
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1")
    await gateway.grant("r1")
    await replica.break_off()
    await Replica.join(scheduler, generation=2, slots=1)
    await gateway.ask("r2")
    await gateway.grant("r2")


async def test_a_second_process_of_the_same_name_is_turned_away(scheduler: Running) -> None:
    first = await Replica.join(scheduler, generation=1)
    second = Replica(scheduler, generation=2)
    await second.beat()
    error = await second.end()
    assert (error.code(), from_rpc_error(error).reason) == (grpc.StatusCode.ALREADY_EXISTS, "REPLICA_ID_IN_USE")
    heard = len(first.heard)
    await eventually(lambda: len(first.heard) > heard + 1)
    assert is_live(await scheduler.view("chat-0"))


async def test_the_same_process_may_come_back_before_its_old_stream_ends(scheduler: Running) -> None:
    old = await Replica.join(scheduler, generation=1)
    await old.fall_silent()
    new = await Replica.join(scheduler, generation=1)
    assert from_rpc_error(await old.end()).reason == "REPLICA_ID_IN_USE"
    await asyncio.sleep(0.1)
    assert is_live(await scheduler.view("chat-0")), "the old stream's end means nothing"
    assert new.ended is None


@pytest.mark.parametrize("spoilt", ["replica_id", "address", "modality"])
async def test_a_beat_without_the_essentials_ends_the_stream(scheduler: Running, spoilt: str) -> None:
    replica = Replica(scheduler)
    replica.state.ClearField(spoilt)  # type: ignore[arg-type]  # the parameter is one of the names
    await replica.beat()
    assert (await replica.end()).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not (await scheduler.snapshot()).replicas


async def test_a_stream_belongs_to_one_replica(scheduler: Running) -> None:
    replica = Replica(scheduler)
    await replica.beat()
    replica.state.replica_id = "chat-1"
    await replica.beat()
    assert (await replica.end()).code() is grpc.StatusCode.INVALID_ARGUMENT
    await scheduler.until_view("chat-0", is_suspect)


async def test_snapshots_carry_the_replicas_own_words(scheduler: Running) -> None:
    replica = Replica(scheduler)
    replica.state.devices.add(name="cuda:0", memory_total_bytes=10, memory_free_bytes=4, utilisation=0.5)
    replica.state.models[0].model.description = "A model."
    await replica.beat()
    await eventually(lambda: replica.heard)
    view = await scheduler.view("chat-0")
    assert view is not None
    assert view.state == replica.state


async def test_the_runtimes_heartbeat_registers_leaves_and_survives_a_restart() -> None:
    """The client that every model service uses, against this server."""

    async def obey(_directive: scheduler_pb2.Directive) -> None:
        raise AssertionError("nothing is ordered")

    async with running() as first:
        port = first.port
        client = HeartbeatClient(first.address, lambda: state("chat-7", generation=3), obey)
        beating = asyncio.create_task(client.run())
        await first.until_view("chat-7", is_live)
    async with running(port) as second:
        await second.until_view("chat-7", is_live)
        await client.leave()
        await asyncio.wait_for(beating, 5)
        assert await second.view("chat-7") is None
