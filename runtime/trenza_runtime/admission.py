"""A replica's own bound on its work: so many requests at once, so many waiting, the rest refused until later.

The scheduler keeps the line as long as it is there; this one matters when it is away or is passed over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
from trenza.common.v1 import common_pb2

from trenza_runtime.core.line import Line, Place
from trenza_runtime.errors import Reason, RpcFault

_SERVICE_S_AT_FIRST = 5.0
"""Assumed length of a request until some have ended, in seconds."""
_SERVICE_WEIGHT = 0.2
"""How much the latest request's length counts in the running mean."""
_RETRY_S = (1.0, 60.0)
"""Shortest and longest time that a refused caller is asked to stay away, in seconds."""


class AdmissionGate:
    """`slots` requests at once, `queue_limit` waiting in the order of their priority class and then of arrival."""

    def __init__(self, slots: int, queue_limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._line = Line(slots, queue_limit)
        self._turns: dict[Place, asyncio.Future[None]] = {}
        self._service_s = _SERVICE_S_AT_FIRST
        self._clock = clock

    @property
    def slots(self) -> int:
        """Slots in all."""
        return self._line.slots

    @property
    def queue_limit(self) -> int:
        """How many requests may wait."""
        return self._line.queue_limit

    @property
    def slots_used(self) -> int:
        """Slots in use."""
        return self._line.taken

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._line.waiting

    @asynccontextmanager
    async def place(self, priority: int = 0, slots: int = 1) -> AsyncIterator[float]:
        """Waits for slots and holds them inside the block; the value is how long the wait was, in seconds.

        `priority` is a `PriorityClass`. Raises RpcFault RESOURCE_EXHAUSTED/QUEUE_FULL when the line is full.
        """
        arrived_s = self._clock()
        joined = self._line.join(_rank(priority), slots)
        if joined is None:
            raise self._full()
        place, at_once = joined
        if not at_once:
            await self._turn_of(place)
        begun_s = self._clock()
        try:
            yield begun_s - arrived_s
        finally:
            self._service_s += _SERVICE_WEIGHT * (self._clock() - begun_s - self._service_s)
            self._give_back(place)

    async def _turn_of(self, place: Place) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[place] = turn
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the very moment of the cancellation: then the slots have to go to the next.
            if place in self._turns:
                del self._turns[place]
                self._line.leave(place)
                self._call()
            else:
                self._give_back(place)
            raise

    def _give_back(self, place: Place) -> None:
        self._line.give_back(place)
        self._call()

    def _call(self) -> None:
        for place in self._line.advance():
            turn = self._turns.pop(place)
            if not turn.done():
                turn.set_result(None)

    def _full(self) -> RpcFault:
        rounds = (self._line.waiting + 1) / self._line.slots
        retry_after_s = min(max(rounds * self._service_s, _RETRY_S[0]), _RETRY_S[1])
        return RpcFault(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            Reason.QUEUE_FULL,
            f"All {self._line.slots} slots are taken and {self._line.waiting} requests wait, as many as may.",
            {"slots": str(self._line.slots), "waiting": str(self._line.waiting)},
            retry_after_s,
        )


def _rank(priority: int) -> int:
    unspecified = priority == common_pb2.PRIORITY_CLASS_UNSPECIFIED
    return common_pb2.PRIORITY_CLASS_NORMAL if unspecified else priority
