"""The stream to the scheduler, against one that takes its time to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_gateway.dispatch.core.leases import Lease, LeaseBook
from trenza_gateway.dispatch.core.retrying import Ending
from trenza_gateway.dispatch.link import SchedulerLink
from trenza_runtime.rpc.server import RpcServer, RpcService


class SlowScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Hears at once what gateways say, and answers when it is told to."""

    def __init__(self) -> None:
        self.heard: list[scheduler_pb2.AdmitRequest] = []
        self.may_answer = asyncio.Event()

    async def Admit(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], _context: Any
    ) -> AsyncIterator[scheduler_pb2.AdmitResponse]:
        answering = asyncio.ensure_future(self.may_answer.wait())
        async for request in requests:
            self.heard.append(request)
            if len(self.heard) == 1:
                await answering
                yield scheduler_pb2.AdmitResponse(snapshot=scheduler_pb2.Snapshot())


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  conditions look at what no event tells of
            await asyncio.sleep(0.01)


async def test_a_lease_that_ends_after_the_hello_and_before_the_answer_is_released() -> None:
    """Or the scheduler, which the hello has told of it, would count it for as long as the gateway lives."""
    scheduler = SlowScheduler()
    server = RpcServer(
        "127.0.0.1",
        0,
        [
            RpcService(
                "trenza.scheduler.v1.SchedulerService",
                lambda s: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, s),
            )
        ],
    )
    port = await server.start()
    leases = LeaseBook()
    leases.enter(Lease("own-1", "r1", "chat-0", "chat-0:1", "m", common_pb2.MODALITY_CHAT, 1, from_scheduler=False))
    link = SchedulerLink(
        f"127.0.0.1:{port}", "g1", leases, on_snapshot=lambda _: None, on_change=lambda: None, draw=lambda: 0.5
    )
    running = asyncio.create_task(link.run())
    try:
        await until(lambda: scheduler.heard)
        assert [lease.lease_id for lease in scheduler.heard[0].hello.held_leases] == ["own-1"]
        assert not link.up
        link.release("own-1", Ending.COMPLETED, 3)
        scheduler.may_answer.set()
        await until(lambda: len(scheduler.heard) == 2)
        assert scheduler.heard[1].release.lease_id == "own-1"
        assert scheduler.heard[1].release.outcome == scheduler_pb2.OUTCOME_COMPLETED
    finally:
        running.cancel()
        await asyncio.wait({running})
        await server.drain(0)
