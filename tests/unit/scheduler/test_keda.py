"""What KEDA asks of the scheduler, over real gRPC: activity by question and by stream, the metric and its target, bad metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trenza.common.v1 import common_pb2
from trenza.keda.v1 import externalscaler_pb2, externalscaler_pb2_grpc
from trenza_runtime.errors import from_rpc_error
from trenza_runtime.rpc.channel import open_channel
from trenza_scheduler import scaling
from trenza_scheduler.core.activity import Activity, Trigger
from trenza_scheduler.core.domain import ModelKey
from unit.scheduler.streams import LIMIT_S, Gateway, Replica, Running, eventually, running

KEY = ModelKey(common_pb2.MODALITY_CHAT, "Org/Alpha.v1")
GOOD = {"scalerAddress": "trenza-scheduler:9091", "modality": "chat", "model": KEY.name, "targetSlots": "3.2"}


def scaled(**metadata: str) -> externalscaler_pb2.ScaledObjectRef:
    """A trigger as KEDA passes it on, its own settings and all."""
    return externalscaler_pb2.ScaledObjectRef(name="so", namespace="ns", scaler_metadata={**GOOD, **metadata})


@pytest.fixture
async def scheduler() -> AsyncIterator[Running]:
    async with running(expected={KEY: 4}, settle_s=0.2, activity_hold_s=0.5) as started:
        yield started


@pytest.fixture
async def keda(scheduler: Running) -> AsyncIterator[externalscaler_pb2_grpc.ExternalScalerAsyncStub]:
    async with open_channel(scheduler.address) as channel:
        stub = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        await settled(stub)
        yield stub


async def settled(stub: Any) -> None:
    """Waits until the scheduler answers for sure."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                await stub.GetMetrics(externalscaler_pb2.GetMetricsRequest(scaled_object_ref=scaled()))
                return
            except grpc.aio.AioRpcError as error:
                if from_rpc_error(error).reason != "NOT_SETTLED":
                    raise
                await asyncio.sleep(0.02)


async def demand(stub: Any, **metadata: str) -> float:
    asked = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=scaled(**metadata))
    (value,) = (await stub.GetMetrics(asked)).metric_values
    assert value.metric_value == value.metric_value_float
    return float(value.metric_value_float)


class Listener:
    """Collects what StreamIsActive says."""

    def __init__(self, stub: Any, **metadata: str) -> None:
        self.heard: list[bool] = []
        self.call = stub.StreamIsActive(scaled(**metadata))
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for response in self.call:
            self.heard.append(response.result)

    async def end(self) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(self._reading, LIMIT_S)
        return caught.value


async def test_the_names_on_the_wire_are_kedas(scheduler: Running) -> None:
    """With nothing of ours between: the path, and bytes laid out by hand."""
    async with grpc.aio.insecure_channel(scheduler.address) as channel:
        call: Any = channel.unary_unary("/externalscaler.ExternalScaler/GetMetricSpec")
        pairs = [b"\x0a\x08modality\x12\x04chat", b"\x0a\x05model\x12\x05alpha", b"\x0a\x0btargetSlots\x12\x032.5"]
        answer = await call(b"".join(b"\x1a" + bytes([len(pair)]) + pair for pair in pairs))
    name = b"trenza-demand-chat-alpha"
    spec = b"\x0a" + bytes([len(name)]) + name + b"\x10\x03" + b"\x19\x00\x00\x00\x00\x00\x00\x04\x40"
    assert answer == b"\x0a" + bytes([len(spec)]) + spec


async def test_the_metric_and_its_target(keda: Any) -> None:
    (spec,) = (await keda.GetMetricSpec(scaled())).metric_specs
    assert spec.metric_name == "trenza-demand-chat-org-alpha-v1", "it stands in the path of a URL"
    assert (spec.target_size, spec.target_size_float) == (4, 3.2)
    asked = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=scaled(), metric_name=spec.metric_name)
    (value,) = (await keda.GetMetrics(asked)).metric_values
    assert (value.metric_name, value.metric_value_float) == (spec.metric_name, 0.0)


async def test_from_zero_to_demand_and_back(scheduler: Running, keda: Any) -> None:
    assert not (await keda.IsActive(scaled())).result
    listener = Listener(keda)
    await eventually(lambda: listener.heard == [False])
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1", KEY.name)
    await eventually(lambda: listener.heard == [False, True])
    assert (await keda.IsActive(scaled())).result
    assert await demand(keda) == 1
    await gateway.ask("r2", KEY.name, slots=3)
    await eventually(lambda: gateway.positions("r2"))
    assert await demand(keda) == 4
    await gateway.withdraw("r1")
    await gateway.withdraw("r2")
    await eventually(lambda: listener.heard == [False, True, False])
    assert not (await keda.IsActive(scaled())).result
    assert await demand(keda) == 0


async def test_what_runs_is_demand_until_it_ends(scheduler: Running, keda: Any) -> None:
    replica = Replica(scheduler)
    replica.state.models[0].model.name = KEY.name
    await replica.beat()
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1", KEY.name)
    grant = await gateway.grant("r1")
    assert await demand(keda) == 1
    assert (await keda.IsActive(scaled())).result
    await gateway.release(grant.lease_id)
    await scheduler.until_view("chat-0", lambda view: view and view.leased_slots == 0)
    assert await demand(keda) == 0
    assert (await keda.IsActive(scaled())).result, "a moment ago there was"
    await asyncio.sleep(0.7)
    assert not (await keda.IsActive(scaled())).result


async def test_short_requests_between_two_questions_count(scheduler: Running, keda: Any) -> None:
    await keda.IsActive(scaled())
    gateway = await Gateway.connect(scheduler)
    await gateway.ask("r1", KEY.name)
    await eventually(lambda: gateway.positions("r1"))
    await asyncio.sleep(scaling.LOOK_GAP_S * 2)
    await gateway.withdraw("r1")
    assert (await keda.IsActive(scaled())).result


async def test_what_is_not_above_the_bound_is_no_activity(scheduler: Running, keda: Any) -> None:
    gateway = await Gateway.connect(scheduler)
    for name in ("r1", "r2"):
        await gateway.ask(name, KEY.name)
    await eventually(lambda: gateway.positions("r2"))
    assert not (await keda.IsActive(scaled(activationSlots="2"))).result
    assert (await keda.IsActive(scaled(activationSlots="1.5"))).result
    assert await demand(keda, activationSlots="2") == 2


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"modality": "smell"}, "`modality` has to be one of chat, audio, vision, images"),
        ({"modality": ""}, "`modality`"),
        ({"model": ""}, "`model` is missing"),
        ({"model": "x" * 257}, "longer than 256"),
        ({"targetSlots": "0"}, "more than 0"),
        ({"targetSlots": "many"}, "a number of slots"),
        ({"targetSlots": ""}, "a number of slots"),
        ({"targetSlots": "nan"}, "a number of slots"),
        ({"targetSlots": "1e400"}, "a number of slots"),
        ({"activationSlots": "-1"}, "`activationSlots`"),
    ],
)
async def test_bad_metadata_are_refused_with_a_sentence(keda: Any, metadata: dict[str, str], words: str) -> None:
    asked = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=scaled(**metadata))
    for call in (keda.IsActive(scaled(**metadata)), keda.GetMetricSpec(scaled(**metadata)), keda.GetMetrics(asked)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words in (caught.value.details() or "")
    error = await Listener(keda, **metadata).end()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_another_triggers_metric_is_refused(keda: Any) -> None:
    asked = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=scaled(), metric_name="trenza-demand-chat-other")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await keda.GetMetrics(asked)
    assert "trenza-demand-chat-org-alpha-v1" in (caught.value.details() or "")


async def test_a_model_that_nobody_knows_is_an_error_and_not_a_zero(keda: Any) -> None:
    """A typing mistake must not scale anything down; the stream stays, for the model may yet appear."""
    metadata = {"model": "alhpa"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await keda.IsActive(scaled(**metadata))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "TRENZA_SCHEDULER_EXPECTED_MODELS" in (caught.value.details() or "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await demand(keda, **metadata)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    listener = Listener(keda, **metadata)
    await eventually(lambda: listener.heard == [False])
    listener.call.cancel()


async def test_before_it_has_heard_everybody_it_does_not_call_anything_idle() -> None:
    async with running(expected={KEY: 4}, settle_s=60.0) as scheduler, open_channel(scheduler.address) as channel:
        keda: Any = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        listener = Listener(keda)
        for ask in (keda.IsActive(scaled()), demand(keda)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask
            assert from_rpc_error(caught.value).reason == "NOT_SETTLED"
        assert (await keda.GetMetricSpec(scaled())).metric_specs
        gateway = await Gateway.connect(scheduler)
        await gateway.ask("r1", KEY.name)
        await eventually(lambda: listener.heard == [True])
        assert (await keda.IsActive(scaled())).result, "demand is demand, whoever else may come"


async def test_there_is_a_bound_to_streams_and_an_ended_one_makes_room(
    monkeypatch: pytest.MonkeyPatch, scheduler: Running, keda: Any
) -> None:
    monkeypatch.setattr(scheduler.owner.scaling, "_streams_limit", 2)
    listeners = [Listener(keda), Listener(keda)]
    await eventually(lambda: all(listener.heard for listener in listeners))
    error = await Listener(keda).end()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    listeners[0].call.cancel()
    await eventually(lambda: len(scheduler.owner.scaling._watches) == 1)
    third = Listener(keda)
    await eventually(lambda: third.heard == [False])


async def test_a_deadline_ends_a_stream_and_leaves_nothing(scheduler: Running, keda: Any) -> None:
    call = keda.StreamIsActive(scaled(), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: not scheduler.owner.scaling._watches)


async def test_streams_do_not_hold_up_the_end(scheduler: Running, keda: Any) -> None:
    listener = Listener(keda)
    await eventually(lambda: listener.heard)
    scheduler.owner.shut_down()
    assert await listener.call.code() is grpc.StatusCode.OK, "KEDA waits ever longer after streams that fail"


def test_activity_is_held_and_bounded() -> None:
    activity = Activity(hold_s=10.0, most=2)
    busy, idle, bounded = Trigger(KEY), Trigger(ModelKey(1, "idle")), Trigger(KEY, 5.0)
    activity.watch(busy)
    activity.watch(idle)
    activity.look(lambda key: 5 if key == KEY else 0, 100.0)
    assert activity.is_active(busy, 110.0)
    assert not activity.is_active(busy, 110.1)
    assert not activity.is_active(idle, 100.0)
    assert activity.wake_s(100.0) == 110.0
    assert activity.wake_s(110.5) == float("inf")
    activity.watch(busy)
    activity.watch(bounded)
    assert len(activity) == 2
    activity.look(lambda _: 5, 120.0)
    assert not activity.is_active(idle, 120.0), "nobody has asked about it for longest: it is forgotten"
    assert not activity.is_active(bounded, 120.0)
    activity.look(lambda _: 6, 121.0)
    assert activity.is_active(bounded, 121.0)
