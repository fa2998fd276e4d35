"""Gateways' streams, over real gRPC: happy, cancelled, too late, cut off, and over a restart of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import from_rpc_error
from unit.scheduler.streams import Gateway, Replica, Running, eventually, running


@pytest.fixture
async def scheduler() -> AsyncIterator[Running]:
    async with running() as started:
        yield started


async def test_a_ticket_becomes_a_grant_and_its_release_frees_the_slot(scheduler: Running) -> None:
    await Replica.join(scheduler, slots=2)
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1")
    grant = await gateway.grant("r1")
    assert (grant.replica_id, grant.address, grant.model_loaded) == ("chat-0", "chat-0:50051", True)
    assert grant.lease_id
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 1)
    await gateway.release(grant.lease_id)
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 0)
    await gateway.finish()
    assert gateway.ended is None, "a gateway that ends its side is let go with status OK"


async def test_those_who_wait_hear_where_they_stand(scheduler: Running) -> None:
    await Replica.join(scheduler, slots=1)
    gateway = await Gateway.connect(scheduler)
    for name in ("r1", "r2", "r3", "r4"):
        await gateway.ask(name)
    grant = await gateway.grant("r1")
    await eventually(lambda: gateway.positions("r4") == [2])
    await gateway.release(grant.lease_id)
    await gateway.grant("r2")
    await eventually(lambda: gateway.positions("r4") == [2, 1])
    await gateway.withdraw("r3")
    await eventually(lambda: gateway.positions("r4") == [2, 1, 0])
    queues = (await scheduler.stub.GetSnapshot(scheduler_pb2.GetSnapshotRequest())).queues
    assert [(queue.model, queue.waiting_tickets, queue.waiting_slots) for queue in queues] == [("alpha", 1, 1)]


async def test_a_broken_stream_ends_its_tickets_and_leases(scheduler: Running) -> None:
    await Replica.join(scheduler, slots=1)
    dying, other = await Gateway.connect(scheduler, "dying"), await Gateway.connect(scheduler, "other")
    await dying.ask("r1")
    await dying.grant("r1")
    await dying.ask("r2")
    await eventually(lambda: dying.positions("r2") == [0])
    await other.ask("r3")
    await eventually(lambda: other.positions("r3") == [1])
    await dying.break_off()
    await other.grant("r3")
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 1)


async def test_a_wait_limit_is_kept(scheduler: Running) -> None:
    await Replica.join(scheduler, slots=1)
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1")
    await gateway.grant("r1")
    begun_s = asyncio.get_running_loop().time()
    await gateway.ask("r2", wait_limit_ms=300)
    refusal = await gateway.refusal("r2")
    assert refusal.reason == scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED
    assert refusal.message
    assert 0.3 <= asyncio.get_running_loop().time() - begun_s < 1.5


async def test_a_full_queue_says_when_to_come_back() -> None:
    async with running(queue=1) as scheduler:
        await Replica.join(scheduler, slots=1)
        gateway = await Gateway.connect(scheduler)
        for name in ("r1", "r2", "r3"):
            await gateway.ask(name)
        refusal = await gateway.refusal("r3")
        assert refusal.reason == scheduler_pb2.REFUSAL_REASON_QUEUE_FULL
        assert refusal.retry_after_ms >= 1000
        assert scheduler.sample("refusals_total", reason="QUEUE_FULL") == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": ""}, "model is missing"),
        ({"model": "x" * 300}, "longer than 256"),
        ({"modality": 0}, "modality"),
        ({"tenant": "x" * 300}, "tenant"),
        ({"request_id": ""}, "request id is missing"),
    ],
)
async def test_a_wrong_ticket_is_refused_and_costs_nobody_else(
    scheduler: Running, fields: dict[str, Any], words: str
) -> None:
    await Replica.join(scheduler)
    gateway = await Gateway.connect(scheduler)
    await gateway.ask(**{"request_id": "wrong", **fields})
    refusal = (await eventually(lambda: [m for m in gateway.heard if m.HasField("refusal")]))[0].refusal
    assert refusal.reason == scheduler_pb2.REFUSAL_REASON_INVALID_TICKET
    assert words in refusal.message
    await gateway.ask("right")
    await gateway.grant("right")


async def test_an_unknown_model_is_not_found_once_the_fleet_is_known(scheduler: Running) -> None:
    await Replica.join(scheduler)
    gateway = await Gateway.connect(scheduler)
    assert not gateway.snapshots()[0].settled
    await gateway.ask("r1", model="nonsense")
    refusal = await gateway.refusal("r1")
    assert refusal.reason == scheduler_pb2.REFUSAL_REASON_MODEL_NOT_FOUND
    assert gateway.positions("r1") == [0], "it waited until then"
    assert (await scheduler.snapshot()).settled


@pytest.mark.parametrize("first", ["ticket", "nothing", "nameless"])
async def test_the_first_message_has_to_be_a_hello(scheduler: Running, first: str) -> None:
    gateway = Gateway(scheduler)
    if first == "ticket":
        await gateway.ask("r1")
    elif first == "nameless":
        await gateway.send(scheduler_pb2.AdmitRequest(hello=scheduler_pb2.GatewayHello()))
    else:
        await gateway.finish()
    error = await gateway.end()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(error).reason == "INVALID_ARGUMENT"


async def test_a_second_hello_ends_the_stream_and_its_leases(scheduler: Running) -> None:
    await Replica.join(scheduler)
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1")
    await gateway.grant("r1")
    await gateway.send(scheduler_pb2.AdmitRequest(hello=scheduler_pb2.GatewayHello(gateway_id="again")))
    assert (await gateway.end()).code() is grpc.StatusCode.INVALID_ARGUMENT
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 0)


async def test_a_gateway_that_comes_back_replaces_its_old_stream(scheduler: Running) -> None:
    await Replica.join(scheduler)
    old = await Gateway.connect(scheduler, "g1")
    await old.ask("r1")
    lease_id = (await old.grant("r1")).lease_id
    held = scheduler_pb2.HeldLease(
        lease_id=lease_id,
        request_id="r1",
        replica_id="chat-0",
        model="alpha",
        slots=1,
        modality=common_pb2.MODALITY_CHAT,
    )
    new = await Gateway.connect(scheduler, "g1", [held])
    error = await old.end()
    assert (error.code(), from_rpc_error(error).reason) == (grpc.StatusCode.ABORTED, "STREAM_REPLACED")
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 1)
    await new.release(lease_id)
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 0)


async def test_a_restarted_scheduler_counts_the_leases_that_gateways_hold() -> None:
    async with running() as first:
        replica, gateway = await Replica.join(first, slots=2), await Gateway.connect(first)
        await gateway.ask("r1")
        lease_id = (await gateway.grant("r1")).lease_id
        port = first.port
        await replica.break_off()
        await gateway.break_off()
    held = [
        scheduler_pb2.HeldLease(
            lease_id=lease,
            request_id=request,
            replica_id="chat-0",
            model="alpha",
            slots=1,
            modality=common_pb2.MODALITY_CHAT,
        )
        for lease, request in ((lease_id, "r1"), ("own-1", "r2"))
    ]
    async with running(port, epoch="next") as second:
        gateway = await Gateway.connect(second, held=held)
        await gateway.ask("r3")
        await eventually(lambda: gateway.positions("r3") == [0])
        await Replica.join(second, slots=2)
        await asyncio.sleep(0.1)
        assert gateway.answer("r3") is None, "both slots are taken by leases from before"
        await gateway.release("own-1", scheduler_pb2.OUTCOME_CANCELLED)
        assert (await gateway.grant("r3")).lease_id != lease_id


@pytest.mark.parametrize(
    ("outbox_limit", "write_stall_s"), [(100, 60.0), (1_000_000, 0.5)], ids=["by count", "by time"]
)
async def test_a_gateway_that_does_not_read_is_cut_off_and_loses_its_leases(
    outbox_limit: int, write_stall_s: float
) -> None:
    async with running(outbox_limit=outbox_limit, write_stall_s=write_stall_s) as scheduler:
        await Replica.join(scheduler, slots=1)
        reading, deaf = await Gateway.connect(scheduler, "reading"), Gateway(scheduler, deaf=True)
        await deaf.send(scheduler_pb2.AdmitRequest(hello=scheduler_pb2.GatewayHello(gateway_id="deaf")))
        await deaf.ask("hog")
        await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 1)
        await reading.ask("r1")
        await eventually(lambda: reading.positions("r1") == [0])

        async def pester() -> None:
            while True:
                await deaf.ask("x" * 20_000)  # the refusal repeats it

        pestering = asyncio.create_task(pester())
        await eventually(lambda: reading.answer("r1"), limit_s=15)
        pestering.cancel()
        await asyncio.wait({pestering})
        await deaf.break_off()


async def test_the_fleet_is_pushed_when_it_changes_and_not_more_often(scheduler: Running) -> None:
    gateway = await Gateway.connect(scheduler)
    replica = await Replica.join(scheduler)
    await eventually(lambda: [len(s.replicas) for s in gateway.snapshots()][-1] == 1)
    count = len(gateway.snapshots())
    for slots in range(3, 53):
        replica.state.models[0].model.slots = slots
        await replica.beat()
    await eventually(lambda: gateway.snapshots()[-1].replicas[0].state.models[0].model.slots == 52)
    assert len(gateway.snapshots()) - count < 25, "fifty changes in no time are few snapshots"
    versions = [snapshot.version for snapshot in gateway.snapshots()]
    assert versions == sorted(set(versions))
    assert {snapshot.epoch for snapshot in gateway.snapshots()} == {"epoch"}


async def test_shutting_down_refuses_those_who_wait_and_ends_the_streams(scheduler: Running) -> None:
    replica, gateway = await Replica.join(scheduler, slots=1), await Gateway.connect(scheduler)
    await gateway.ask("r1")
    await gateway.grant("r1")
    await gateway.ask("r2")
    await eventually(lambda: gateway.positions("r2") == [0])
    begun_s = asyncio.get_running_loop().time()
    scheduler.owner.shut_down()
    await scheduler.server.drain(20)
    assert asyncio.get_running_loop().time() - begun_s < 2, "nothing keeps it"
    assert (await gateway.refusal("r2")).reason == scheduler_pb2.REFUSAL_REASON_SHUTTING_DOWN
    for stream in (gateway, replica):
        error = await stream.end()
        assert (error.code(), from_rpc_error(error).reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_every_request_can_be_explained(scheduler: Running) -> None:
    await Replica.join(scheduler, "chat-0", slots=1)
    gateway = await Gateway.connect(scheduler)
    for name in ("r1", "r2", "r3"):
        await gateway.ask(name)
    grant = await gateway.grant("r1")
    await eventually(lambda: gateway.positions("r3") == [1])

    async def explain(request_id: str) -> scheduler_pb2.ExplainResponse:
        return await scheduler.stub.Explain(scheduler_pb2.ExplainRequest(request_id=request_id))

    running_, first, second = await explain("r1"), await explain("r2"), await explain("r3")
    assert (running_.state, running_.replica_id) == (scheduler_pb2.TICKET_STATE_GRANTED, "chat-0")
    assert running_.candidates[0].scores["loaded"] == 1.0
    assert 0 < running_.candidates[0].score <= 1
    assert (first.state, first.candidates[0].ruled_out_by) == (scheduler_pb2.TICKET_STATE_WAITING, "room")
    assert "a free slot" in first.waiting_for
    assert "1 ticket" in second.waiting_for
    await gateway.release(grant.lease_id)
    await gateway.grant("r2")
    assert (await explain("r1")).state == scheduler_pb2.TICKET_STATE_RELEASED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explain("never heard of")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert from_rpc_error(caught.value).reason == "REQUEST_NOT_FOUND"


async def test_metrics_follow_demand_and_capacity_and_never_a_clients_words(scheduler: Running) -> None:
    replica, gateway = await Replica.join(scheduler, slots=2), await Gateway.connect(scheduler)
    for name in ("r1", "r2", "r3"):
        await gateway.ask(name)
    await gateway.ask("r4", model="a-clients-word")
    await gateway.grant("r2")
    labels = {"modality": "chat", "model": "alpha"}
    await eventually(lambda: scheduler.sample("queue_tickets", priority="normal", **labels) == 1)
    assert scheduler.sample("leases", **labels) == 2
    assert scheduler.sample("queue_tickets", priority="", modality="", model="") == 1
    assert scheduler.sample("demand_slots", **labels) is None, "autoscalers are told nothing before all have been heard"
    await eventually(lambda: scheduler.sample("demand_slots", **labels) == 3)
    assert scheduler.sample("capacity_slots", **labels) == 2
    assert scheduler.sample("model_served", **labels) == 1
    assert scheduler.sample("model_failed_replicas", **labels) == 0
    assert scheduler.sample("refusals_total", reason="NO_CAPACITY") == 0, "there before the first"
    oldest_s = scheduler.sample("oldest_wait_seconds", **labels)
    assert oldest_s > 0
    await eventually(lambda: scheduler.sample("oldest_wait_seconds", **labels) > oldest_s)
    assert scheduler.sample("replicas", modality="chat", health="live") == 1
    assert scheduler.sample("gateways") == 1
    assert scheduler.sample("grants_total", modality="chat") == 2
    assert scheduler.sample("wait_seconds_count", modality="chat", priority="normal") == 2
    for name in ("r1", "r2"):
        await gateway.release((await gateway.grant(name)).lease_id)
    await gateway.release((await gateway.grant("r3")).lease_id)
    assert not any("a-clients-word" in str(metric.samples) for metric in scheduler.registry.collect())
    await replica.fall_silent()
    await replica.beat(leaving=True)
    await eventually(lambda: scheduler.sample("capacity_slots", **labels) is None)
    assert scheduler.sample("releases_total", outcome="completed") == 3
