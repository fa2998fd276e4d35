"""The state machine's one owner: gives it events and the time, and carries out what it says."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from random import Random

from trenza.scheduler.v1 import scheduler_pb2 as pb

from trenza_scheduler import metrics, translate
from trenza_scheduler.core.domain import Event, Grant, Limits, PushSnapshot, QueueUpdate, Refuse, Tick
from trenza_scheduler.core.machine import Machine

TICK_S = 0.1
SNAPSHOT_PAUSE_S = 0.1
"""Snapshots are pushed at most this often."""
OUTBOX_LIMIT = 10_000
"""Answers that may wait for a gateway which does not read; beyond that it is cut off."""


class Outbox:
    """What is still to be told to one gateway: answers in order, and the newest snapshot only."""

    def __init__(self) -> None:
        self.overflowed = False
        self._answers: deque[pb.AdmitResponse] = deque()
        self._updates: dict[str, pb.AdmitResponse] = {}
        self._snapshot: pb.AdmitResponse | None = None
        self._wake = asyncio.Event()

    def put(self, action: Grant | QueueUpdate | Refuse) -> None:
        """Adds an answer. A queue position that was not told yet gives way to a newer one."""
        message = translate.answer(action)
        if isinstance(action, QueueUpdate):
            self._updates[action.request_id] = message
        else:
            request_id = action.lease.request_id if isinstance(action, Grant) else action.request_id
            self._updates.pop(request_id, None)
            self._answers.append(message)
        self.overflowed = self.overflowed or len(self._answers) + len(self._updates) > OUTBOX_LIMIT
        self._wake.set()

    def put_snapshot(self, snapshot: pb.Snapshot) -> None:
        """Replaces the snapshot that was not told yet."""
        self._snapshot = pb.AdmitResponse(snapshot=snapshot)
        self._wake.set()

    async def take(self) -> list[pb.AdmitResponse]:
        """All that is to be told; waits until there is something. The snapshot comes first, so that grants find their replica."""
        while not (self._answers or self._updates or self._snapshot):
            self._wake.clear()
            await self._wake.wait()
        messages = [self._snapshot] if self._snapshot else []
        messages += [*self._answers, *self._updates.values()]
        self._snapshot = None
        self._answers.clear()
        self._updates.clear()
        return messages


class Owner:
    """Holds the state machine. Everything happens in one event loop, so events have an order and nothing needs a lock."""

    def __init__(self, limits: Limits, epoch: str, rng: Random) -> None:
        self.limits = limits
        self.machine = Machine(limits, epoch, time.monotonic())
        self._epoch = epoch
        self._rng = rng
        self._outboxes: dict[str, Outbox] = {}
        self._version = 0
        self._changed = asyncio.Event()

    def apply(self, event: Event) -> None:
        """Lets the machine decide and passes its answers on."""
        for action in self.machine.apply(event, time.monotonic(), self._rng):
            match action:
                case PushSnapshot():
                    self._changed.set()
                case Grant():
                    metrics.granted(action)
                    self._tell(action.lease.stream, action)
                case Refuse():
                    metrics.REFUSALS.labels(action.reason.value).inc()
                    self._tell(action.stream, action)
                case QueueUpdate():
                    self._tell(action.stream, action)

    def open_outbox(self, stream: str) -> Outbox:
        """Where a gateway's answers go from now on; the first of them is the whole fleet."""
        outbox = self._outboxes[stream] = Outbox()
        outbox.put_snapshot(self.snapshot())
        return outbox

    def close_outbox(self, stream: str) -> None:
        """Nobody listens any more."""
        self._outboxes.pop(stream, None)

    def snapshot(self) -> pb.Snapshot:
        """The fleet as it is now."""
        return translate.snapshot(self.machine, self._version, self._epoch, time.monotonic())

    async def run(self) -> None:
        """Lets time pass and pushes snapshots, for ever."""
        await asyncio.gather(self._tick(), self._push_snapshots())

    def _tell(self, stream: str, action: Grant | QueueUpdate | Refuse) -> None:
        outbox = self._outboxes.get(stream)
        if outbox is not None:
            outbox.put(action)

    async def _tick(self) -> None:
        while True:
            self.apply(Tick())
            metrics.show(self.machine)
            await asyncio.sleep(TICK_S)

    async def _push_snapshots(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._version += 1
            snapshot = self.snapshot()
            for outbox in self._outboxes.values():
                outbox.put_snapshot(snapshot)
            await asyncio.sleep(SNAPSHOT_PAUSE_S)
