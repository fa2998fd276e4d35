"""The stream to the scheduler, against one that takes its time to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from renewing import Renewing
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_gateway.dispatch.core.leases import Lease, LeaseBook
from trenza_gateway.dispatch.core.retrying import Ending
from trenza_gateway.dispatch.link import LinkLost, LinkTimes, SchedulerLink
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.rpc.tls import Transport


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


class QuickScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Answers a hello with a snapshot, and tickets when it is told to."""

    def __init__(self) -> None:
        self.hellos: list[scheduler_pb2.GatewayHello] = []
        self.streams = 0
        self.may_grant = asyncio.Event()

    async def Admit(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], _context: Any
    ) -> AsyncIterator[scheduler_pb2.AdmitResponse]:
        self.streams += 1
        try:
            async for request in requests:
                if request.HasField("hello"):
                    self.hellos.append(request.hello)
                    yield scheduler_pb2.AdmitResponse(snapshot=scheduler_pb2.Snapshot())
                elif request.HasField("ticket"):
                    await self.may_grant.wait()
                    ticket = request.ticket.request_id
                    grant = scheduler_pb2.Grant(request_id=ticket, lease_id=f"lease-{ticket}", replica_id="chat-0")
                    yield scheduler_pb2.AdmitResponse(grant=grant)
        finally:
            self.streams -= 1


@asynccontextmanager
async def linked(
    scheduler: QuickScheduler, leases: LeaseBook, transport: Transport, times: LinkTimes
) -> AsyncIterator[SchedulerLink]:
    service = RpcService(
        "trenza.scheduler.v1.SchedulerService",
        lambda s: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, s),
    )
    server = RpcServer("127.0.0.1", 0, [service])
    address = f"127.0.0.1:{await server.start()}"
    link = SchedulerLink(
        address,
        "g1",
        leases,
        on_snapshot=lambda _: None,
        on_change=lambda: None,
        draw=lambda: 0.5,
        times=times,
        transport=transport,
    )
    running = asyncio.create_task(link.run())
    try:
        await until(lambda: link.up)
        yield link
    finally:
        running.cancel()
        await asyncio.wait({running})
        await server.drain(0)


async def test_a_renewed_certificate_moves_the_stream_once_no_ticket_waits_and_leases_go_along() -> None:
    scheduler, leases, transport = QuickScheduler(), LeaseBook(), Renewing()
    async with linked(scheduler, leases, transport, LinkTimes()) as link:
        ticket = scheduler_pb2.Ticket(request_id="r1", model="m", modality=common_pb2.MODALITY_CHAT, slots=1)
        asking = asyncio.create_task(link.ask(ticket, 20))
        await asyncio.sleep(0.05)
        transport.renew()
        await until(lambda: len(transport.opened) == 2)
        await asyncio.sleep(0.2)
        assert len(scheduler.hellos) == 1, "a ticket waits: the stream stays"
        scheduler.may_grant.set()
        assert (await asking).lease_id == "lease-r1"
        await until(lambda: len(scheduler.hellos) == 2 and link.up)
        assert [lease.lease_id for lease in scheduler.hellos[1].held_leases] == ["lease-r1"]
        await until(lambda: scheduler.streams == 1)
        assert (await link.ask(scheduler_pb2.Ticket(request_id="r2", slots=1), 5)).lease_id == "lease-r2"


async def test_a_ticket_that_waits_on_and_on_does_not_keep_the_old_certificate_for_ever() -> None:
    scheduler, transport = QuickScheduler(), Renewing()
    async with linked(scheduler, LeaseBook(), transport, LinkTimes(quiet_s=0.1)) as link:
        asking = asyncio.create_task(link.ask(scheduler_pb2.Ticket(request_id="r1", slots=1), 20))
        await asyncio.sleep(0.05)
        transport.renew()
        with pytest.raises(LinkLost):
            await asking
        await until(lambda: len(scheduler.hellos) == 2)


async def test_the_stream_stays_while_the_renewed_certificate_leads_nowhere() -> None:
    scheduler, transport = QuickScheduler(), Renewing()
    times = LinkTimes(join_s=0.2, most_pause_s=0.05)
    async with linked(scheduler, LeaseBook(), transport, times) as link:
        scheduler.may_grant.set()
        address, link._address = link._address, "127.0.0.1:1"
        transport.renew()
        await until(lambda: len(transport.opened) >= 3)
        assert (await link.ask(scheduler_pb2.Ticket(request_id="r1", slots=1), 5)).lease_id == "lease-r1"
        assert len(scheduler.hellos) == 1
        link._address = address
        await until(lambda: len(scheduler.hellos) == 2 and link.up)


class ClosingScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Answers a gateway's hello and ends the stream, as one that stops does."""

    def __init__(self) -> None:
        self.streams = 0

    async def Admit(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], _context: Any
    ) -> AsyncIterator[scheduler_pb2.AdmitResponse]:
        await anext(aiter(requests))
        self.streams += 1
        yield scheduler_pb2.AdmitResponse(snapshot=scheduler_pb2.Snapshot())


async def test_nothing_waits_for_requests_of_a_stream_that_the_scheduler_ended() -> None:
    scheduler = ClosingScheduler()
    service = RpcService(
        "trenza.scheduler.v1.SchedulerService",
        lambda s: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, s),
    )
    server = RpcServer("127.0.0.1", 0, [service])
    port = await server.start()
    times = LinkTimes(first_pause_s=0.01, most_pause_s=0.02)
    link = SchedulerLink(
        f"127.0.0.1:{port}",
        "g1",
        LeaseBook(),
        on_snapshot=lambda _: None,
        on_change=lambda: None,
        draw=lambda: 0.5,
        times=times,
    )
    running = asyncio.create_task(link.run())
    try:
        await until(lambda: scheduler.streams >= 5)
        consuming = [task for task in asyncio.all_tasks() if "_consume_request_iterator" in repr(task)]
        assert len(consuming) <= 2  # of the stream that is, and of the one that has just ended
    finally:
        running.cancel()
        await asyncio.wait({running})
        await server.drain(0)
