"""What waits to be sent to one gateway: bounded, and without what has become pointless meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque

import grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import RpcFault

TOO_SLOW = "GATEWAY_TOO_SLOW"


class Outbox:
    """Answers keep their order and are never dropped; of queue positions and snapshots only the newest is kept.

    A gateway that leaves more than `limit` answers unread is to be cut off: `overflow` is done then, with the fault.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: deque[scheduler_pb2.AdmitResponse] = deque()
        self._updates: dict[str, scheduler_pb2.QueueUpdate] = {}
        self._snapshot: scheduler_pb2.AdmitResponse | None = None
        self._news = asyncio.Event()
        self._closed = False
        self.fault: RpcFault | None = None
        self.overflow: asyncio.Future[RpcFault] = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> bool:
        """Whether nothing more goes in."""
        return self._closed

    def __len__(self) -> int:
        return len(self._answers) + len(self._updates) + (self._snapshot is not None)

    def put_grant(self, grant: scheduler_pb2.Grant) -> None:
        """A ticket has its place."""
        self._updates.pop(grant.request_id, None)
        self._answer(scheduler_pb2.AdmitResponse(grant=grant))

    def put_refusal(self, refusal: scheduler_pb2.Refusal) -> None:
        """A ticket gets no place."""
        self._updates.pop(refusal.request_id, None)
        self._answer(scheduler_pb2.AdmitResponse(refusal=refusal))

    def put_update(self, update: scheduler_pb2.QueueUpdate) -> None:
        """A ticket waits; replaces what was to be said of its position before. Bounded by the tickets that wait."""
        if not self._closed:
            self._updates[update.request_id] = update
            self._news.set()

    def drop_update(self, request_id: str) -> None:
        """Nobody wants to know a ticket's position any more."""
        self._updates.pop(request_id, None)

    def put_snapshot(self, snapshot: scheduler_pb2.Snapshot) -> None:
        """The fleet has changed; replaces a snapshot that has not been sent."""
        if not self._closed:
            self._snapshot = scheduler_pb2.AdmitResponse(snapshot=snapshot)
            self._news.set()

    def close(self, fault: RpcFault | None = None) -> None:
        """Takes nothing more; what is inside can still be taken out. Only the first call counts."""
        if not self._closed:
            self._closed, self.fault = True, fault
            self._news.set()

    async def take(self) -> scheduler_pb2.AdmitResponse | None:
        """The next thing to send: answers go first, then the snapshot, then positions; None when closed and empty."""
        while True:
            if (message := self._next()) is not None or self._closed:
                return message
            self._news.clear()
            await self._news.wait()

    def _next(self) -> scheduler_pb2.AdmitResponse | None:
        if self._answers:
            return self._answers.popleft()
        if self._snapshot is not None:
            snapshot, self._snapshot = self._snapshot, None
            return snapshot
        if self._updates:
            update = self._updates.pop(next(iter(self._updates)))
            return scheduler_pb2.AdmitResponse(queue_update=update)
        return None

    def _answer(self, response: scheduler_pb2.AdmitResponse) -> None:
        if self._closed:
            return
        if len(self._answers) >= self._limit:
            self._answers.clear()
            self._updates.clear()
            self._snapshot = None
            self.close()
            self.overflow.set_result(too_slow(f"{self._limit} answers wait unread"))
            return
        self._answers.append(response)
        self._news.set()


def too_slow(why: str) -> RpcFault:
    """What a gateway is told that does not read its stream."""
    message = f"The gateway does not read its stream: {why}. Its tickets and leases have ended; open a new stream."
    return RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_SLOW, message)
