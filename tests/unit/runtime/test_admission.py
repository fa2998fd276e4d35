"""Who gets a slot, in which order, and that nobody who leaves keeps one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trenza.common.v1 import common_pb2
from trenza_runtime.admission import AdmissionGate
from trenza_runtime.core.line import Line, Place
from trenza_runtime.errors import RpcFault

URGENT, NORMAL, BACKGROUND = (
    common_pb2.PRIORITY_CLASS_URGENT,
    common_pb2.PRIORITY_CLASS_NORMAL,
    common_pb2.PRIORITY_CLASS_BACKGROUND,
)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Callers:
    """Requests that hold their place until they are told to end; `order` is the order in which they came in."""

    def __init__(self, gate: AdmissionGate) -> None:
        self.gate = gate
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def arrive(self, name: str, priority: int = NORMAL, slots: int = 1) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, priority, slots))
        await settle()

    async def _hold(self, name: str, priority: int, slots: int) -> None:
        async with self.gate.place(priority, slots):
            self.order.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()

    async def go_away(self, name: str) -> None:
        self.tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self.tasks[name]
        await settle()


async def test_serves_by_priority_class_then_by_arrival() -> None:
    callers = Callers(AdmissionGate(1, 10))
    await callers.arrive("first")
    await callers.arrive("background", BACKGROUND)
    await callers.arrive("normal 1")
    await callers.arrive("unspecified", common_pb2.PRIORITY_CLASS_UNSPECIFIED)
    await callers.arrive("urgent", URGENT)
    for name in ("first", "urgent", "normal 1", "unspecified", "background"):
        await callers.end(name)
    assert callers.order == ["first", "urgent", "normal 1", "unspecified", "background"]
    assert callers.gate.slots_used == 0


async def test_refuses_beyond_the_queue_limit_and_says_when_to_come_back() -> None:
    callers = Callers(AdmissionGate(1, 1))
    await callers.arrive("runs")
    await callers.arrive("waits")
    with pytest.raises(RpcFault) as caught:
        async with callers.gate.place(URGENT):
            pass
    fault = caught.value
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert fault.retry_after_s is not None
    assert 1 <= fault.retry_after_s <= 60
    assert (callers.gate.slots_used, callers.gate.waiting) == (1, 1)
    await callers.end("runs")
    await callers.end("waits")


async def test_the_time_to_come_back_follows_how_long_requests_take() -> None:
    now_s = 0.0
    gate = AdmissionGate(1, 0, clock=lambda: now_s)
    for _ in range(30):
        async with gate.place():
            now_s += 20.0
    async with gate.place():
        with pytest.raises(RpcFault) as caught:
            async with gate.place():
                pass
    assert caught.value.retry_after_s == pytest.approx(20, abs=1)


async def test_who_stops_waiting_leaves_no_ghost() -> None:
    callers = Callers(AdmissionGate(1, 10))
    await callers.arrive("runs")
    await callers.arrive("gives up")
    await callers.arrive("waits")
    await callers.go_away("gives up")
    assert callers.gate.waiting == 1
    await callers.end("runs")
    assert callers.order == ["runs", "waits"]
    await callers.end("waits")
    assert callers.gate.slots_used == 0


async def test_a_turn_that_comes_in_the_moment_of_cancellation_goes_to_the_next() -> None:
    callers = Callers(AdmissionGate(1, 10))
    await callers.arrive("runs")
    await callers.arrive("gives up")
    await callers.arrive("waits")
    # Both in one turn of the event loop: the slot is handed over to somebody who has just been cancelled.
    callers.tasks["runs"].cancel()
    await asyncio.sleep(0)
    callers.tasks["gives up"].cancel()
    await settle()
    assert callers.order == ["runs", "waits"]
    await callers.end("waits")
    assert callers.gate.slots_used == 0


async def test_a_request_for_many_slots_is_not_passed_over() -> None:
    callers = Callers(AdmissionGate(2, 10))
    await callers.arrive("a")
    await callers.arrive("b")
    await callers.arrive("wide", slots=2)
    await callers.arrive("narrow")
    await callers.end("a")
    assert callers.order == ["a", "b"]
    await callers.end("b")
    assert callers.order == ["a", "b", "wide"]
    await callers.end("wide")
    assert callers.order == ["a", "b", "wide", "narrow"]
    await callers.end("narrow")


async def test_the_place_says_how_long_the_wait_was() -> None:
    now_s = 10.0
    gate = AdmissionGate(1, 1, clock=lambda: now_s)
    waits: list[float] = []

    async def wait() -> None:
        async with gate.place() as waited_s:
            waits.append(waited_s)

    async with gate.place() as at_once_s:
        task = asyncio.create_task(wait())
        await settle()
        now_s = 12.5
    await task
    assert (at_once_s, waits) == (0.0, [2.5])


@given(st.integers(1, 4), st.integers(0, 5), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=60))
def test_slots_and_line_stay_inside_their_limits_and_nothing_is_lost(
    slots: int, queue_limit: int, moves: list[tuple[int, int]]
) -> None:
    line, running, waiting = Line(slots, queue_limit), list[Place](), list[Place]()
    for move, which in moves:
        if move == 0 and running:
            line.give_back(running.pop(which % len(running)))
        elif move == 1 and waiting:
            line.leave(waiting.pop(which % len(waiting)))
        elif joined := line.join(priority=move, slots=which % 3):
            (running if joined[1] else waiting).append(joined[0])
        for place in line.advance():
            assert place == min(waiting)
            waiting.remove(place)
            running.append(place)
        assert line.taken == sum(place.slots for place in running) <= slots
        assert line.waiting == len(waiting) <= queue_limit
        assert not waiting or min(waiting).slots > slots - line.taken
