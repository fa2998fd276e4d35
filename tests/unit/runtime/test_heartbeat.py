"""A replica that is heard by a scheduler that answers, dies, comes back, hangs and gives orders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from renewing import Renewing
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime import heartbeat
from trenza_runtime.heartbeat import HeartbeatClient
from trenza_runtime.rpc.tls import Transport


class Scheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Writes down every beat and answers as it is told."""

    def __init__(self) -> None:
        self.beats: list[tuple[float, scheduler_pb2.HeartbeatRequest]] = []
        self.interval_ms = 100
        self.orders: list[scheduler_pb2.Directive] = []
        self.mute = False
        self.answers_after_s = 0.0
        self.port = 0
        self.streams = 0
        self.most_streams = 0
        self.beats_since = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def die(self) -> None:
        assert self._server is not None
        await self._server.stop(0)

    async def Heartbeat(
        self, request_iterator: AsyncIterator[scheduler_pb2.HeartbeatRequest], context: Any
    ) -> AsyncIterator[scheduler_pb2.HeartbeatResponse]:
        self.streams += 1
        self.most_streams = max(self.streams, self.most_streams)
        try:
            async for beat in request_iterator:
                self.beats.append((time.monotonic(), beat))
                self.beats_since += 1
                await asyncio.sleep(self.answers_after_s)
                if not self.mute:
                    orders, self.orders = self.orders, []
                    yield scheduler_pb2.HeartbeatResponse(
                        acknowledged_sequence=beat.sequence, interval_ms=self.interval_ms, directives=orders
                    )
        finally:
            self.streams -= 1


class Replica:
    def __init__(self, address: str, transport: Transport | None = None) -> None:
        self.running = 0
        self.obeyed: list[str] = []
        self.client = HeartbeatClient(address, self.describe, self.obey, transport)

    def describe(self) -> scheduler_pb2.ReplicaState:
        return scheduler_pb2.ReplicaState(replica_id="r", generation=7, running_requests=self.running)

    async def obey(self, directive: scheduler_pb2.Directive) -> None:
        if directive.load_model.model == "broken":
            raise RuntimeError("cannot")
        await asyncio.sleep(0.02 if directive.load_model.model == "slow" else 0)
        self.obeyed.append(directive.load_model.model)


@asynccontextmanager
async def beating(scheduler: Scheduler, transport: Transport | None = None) -> AsyncIterator[Replica]:
    replica = Replica(f"127.0.0.1:{scheduler.port}", transport)
    task = asyncio.create_task(replica.client.run())
    try:
        yield replica
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    started = Scheduler()
    await started.start()
    yield started
    await started.die()


async def eventually(condition: Callable[[], Any], limit_s: float = 5.0) -> float:
    """Waits for the condition; returns how long that took."""
    begun_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  the test looks from outside, nothing there sets an event for it
            await asyncio.sleep(0.005)
    return time.monotonic() - begun_s


async def test_beats_at_the_interval_that_it_is_asked_for(scheduler: Scheduler) -> None:
    async with beating(scheduler):
        await eventually(lambda: len(scheduler.beats) >= 6)
    times = [at_s for at_s, _ in scheduler.beats]
    assert 0.4 <= times[5] - times[0] <= 1.5
    assert [beat.sequence for _, beat in scheduler.beats[:6]] == [1, 2, 3, 4, 5, 6]
    assert {beat.state.generation for _, beat in scheduler.beats} == {7}


async def test_a_change_is_told_at_once_and_many_share_a_beat(scheduler: Scheduler) -> None:
    scheduler.interval_ms = 60_000
    async with beating(scheduler) as replica:
        await eventually(lambda: replica.client.connected)
        await asyncio.sleep(0.1)
        replica.running = 1
        replica.client.beat_now()
        assert await eventually(lambda: scheduler.beats[-1][1].state.running_requests == 1) < 0.5
        before = len(scheduler.beats)
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            replica.running += 1
            replica.client.beat_now()
            await asyncio.sleep(0.001)
        assert len(scheduler.beats) - before <= 11
        await eventually(lambda: scheduler.beats[-1][1].state.running_requests == replica.running)


async def test_finds_a_scheduler_that_comes_late_and_one_that_comes_back(scheduler: Scheduler) -> None:
    await scheduler.die()
    async with beating(scheduler) as replica:
        await asyncio.sleep(0.3)
        await scheduler.start()
        await eventually(lambda: replica.client.connected, 3)
        await scheduler.die()
        await eventually(lambda: not replica.client.connected)
        await asyncio.sleep(3)  # long enough for the pause between attempts to have grown to its limit
        heard = len(scheduler.beats)
        await scheduler.start()
        assert await eventually(lambda: len(scheduler.beats) > heard, 4) < 2.5
        last = scheduler.beats[-1][1]
        assert last.sequence > scheduler.beats[heard - 1][1].sequence


async def test_leaves_a_stream_on_which_nothing_is_answered(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_MAX_SILENCE_S", 0.2)
    async with beating(scheduler) as replica:
        await eventually(lambda: replica.client.connected)
        scheduler.mute = True
        await eventually(lambda: not replica.client.connected)
        scheduler.mute = False
        await eventually(lambda: replica.client.connected)


async def test_obeys_in_order_and_survives_an_order_that_cannot_be_obeyed(scheduler: Scheduler) -> None:
    names = ["slow", "broken", "a", "b"]
    scheduler.orders = [scheduler_pb2.Directive(load_model=scheduler_pb2.LoadModel(model=name)) for name in names]
    async with beating(scheduler) as replica:
        await eventually(lambda: len(replica.obeyed) == 3)
        assert replica.obeyed == ["slow", "a", "b"]
        await eventually(lambda: len(scheduler.beats) >= 3)


async def test_a_slow_order_does_not_keep_it_from_beating(scheduler: Scheduler) -> None:
    async with beating(scheduler) as replica:
        never = asyncio.Event()

        async def obey(directive: scheduler_pb2.Directive) -> None:
            await never.wait()

        replica.client._obey = obey
        scheduler.orders = [scheduler_pb2.Directive(drain=scheduler_pb2.Drain())]
        await eventually(lambda: len(scheduler.beats) >= 5)


async def test_says_goodbye(scheduler: Scheduler) -> None:
    scheduler.interval_ms = 60_000
    replica = Replica(f"127.0.0.1:{scheduler.port}")
    task = asyncio.create_task(replica.client.run())
    await eventually(lambda: replica.client.connected)
    await replica.client.leave()
    assert [beat.leaving for _, beat in scheduler.beats] == [False, True]
    await asyncio.wait_for(task, 1)


async def test_the_answer_to_an_earlier_beat_is_not_taken_for_the_goodbye(scheduler: Scheduler) -> None:
    scheduler.answers_after_s = 0.02
    async with beating(scheduler) as replica:
        await eventually(lambda: len(scheduler.beats) == 1)
        await replica.client.leave()
        assert [beat.leaving for _, beat in scheduler.beats] == [False, True]


async def test_goodbye_to_a_scheduler_that_is_away_is_short(scheduler: Scheduler) -> None:
    await scheduler.die()
    replica = Replica(f"127.0.0.1:{scheduler.port}")
    task = asyncio.create_task(replica.client.run())
    await asyncio.sleep(0.1)
    begun_s = time.monotonic()
    await replica.client.leave()
    await asyncio.wait_for(task, 1)
    assert time.monotonic() - begun_s < 2


async def test_a_renewed_certificate_moves_the_stream_and_the_scheduler_hears_the_replica_all_the_time(
    scheduler: Scheduler,
) -> None:
    transport = Renewing()
    async with beating(scheduler, transport) as replica:
        await eventually(lambda: replica.client.connected)
        for renewals in (1, 2, 3):
            transport.renew()
            while len(transport.opened) <= renewals:  # noqa: ASYNC110  as in `eventually`
                await asyncio.sleep(0.005)
            await eventually(lambda: scheduler.streams == 1)
            assert replica.client.connected
            scheduler.beats_since = 0
            await eventually(lambda: scheduler.beats_since > 1)
        assert scheduler.most_streams == 2, "the old stream stays until the new one is heard"
        sequence = [beat.sequence for _, beat in scheduler.beats]
        assert sequence == sorted(set(sequence)), "one beats after the other, or the scheduler would go back to the old"
        await replica.client.leave()
    assert scheduler.beats[-1][1].leaving


async def test_a_renewal_while_the_scheduler_is_away_or_mute_ends_in_a_stream_that_works(scheduler: Scheduler) -> None:
    transport = Renewing()
    async with beating(scheduler, transport) as replica:
        await eventually(lambda: replica.client.connected)
        await scheduler.die()
        await eventually(lambda: not replica.client.connected)
        transport.renew()
        await scheduler.start()
        await eventually(lambda: replica.client.connected)
        heard = len(scheduler.beats)
        await eventually(lambda: len(scheduler.beats) > heard + 2)
        assert scheduler.streams == 1


async def test_a_scheduler_that_does_not_take_the_renewed_certificate_is_asked_again(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_SUCCESSION_S", 0.2)
    transport = Renewing()
    address = f"127.0.0.1:{scheduler.port}"
    async with beating(scheduler, transport) as replica:
        await eventually(lambda: replica.client.connected)
        replica.client._address = "127.0.0.1:1"  # where it connects from now on, nobody answers
        transport.renew()
        await eventually(lambda: not replica.client.connected)
        replica.client._address = address
        await eventually(lambda: replica.client.connected)
        assert scheduler.streams == 1
