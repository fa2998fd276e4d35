"""What waits for a gateway: order, coalescing, bounds."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import RpcFault
from trenza_scheduler.outbox import TOO_SLOW, Outbox


def grant(name: str) -> scheduler_pb2.Grant:
    return scheduler_pb2.Grant(request_id=name)


def update(name: str, position: int) -> scheduler_pb2.QueueUpdate:
    return scheduler_pb2.QueueUpdate(request_id=name, position=position)


async def drained(outbox: Outbox) -> list[str]:
    """What comes out until the outbox is empty, in short."""
    outbox.close()
    said = []
    while (message := await outbox.take()) is not None:
        kind = message.WhichOneof("message")
        detail = {
            "grant": message.grant.request_id,
            "refusal": message.refusal.request_id,
            "queue_update": f"{message.queue_update.request_id}@{message.queue_update.position}",
            "snapshot": str(message.snapshot.version),
        }
        said.append(f"{kind} {detail[kind or '']}")
    return said


async def test_answers_keep_their_order_and_go_before_everything_else() -> None:
    outbox = Outbox(10)
    outbox.put_update(update("r9", 3))
    outbox.put_snapshot(scheduler_pb2.Snapshot(version=1))
    outbox.put_grant(grant("r1"))
    outbox.put_refusal(scheduler_pb2.Refusal(request_id="r2"))
    outbox.put_grant(grant("r3"))
    assert await drained(outbox) == ["grant r1", "refusal r2", "grant r3", "snapshot 1", "queue_update r9@3"]


async def test_only_the_newest_snapshot_and_position_are_kept() -> None:
    outbox = Outbox(10)
    for number in range(5):
        outbox.put_snapshot(scheduler_pb2.Snapshot(version=number))
        outbox.put_update(update("r1", number))
    assert await drained(outbox) == ["snapshot 4", "queue_update r1@4"]


async def test_positions_of_answered_or_withdrawn_tickets_are_not_told() -> None:
    outbox = Outbox(10)
    for name in ("r1", "r2", "r3"):
        outbox.put_update(update(name, 1))
    outbox.put_grant(grant("r1"))
    outbox.put_refusal(scheduler_pb2.Refusal(request_id="r2"))
    outbox.drop_update("r3")
    assert await drained(outbox) == ["grant r1", "refusal r2"]


async def test_too_many_answers_overflow_it() -> None:
    outbox = Outbox(2)
    for name in ("r1", "r2"):
        outbox.put_grant(grant(name))
    assert not outbox.overflow.done()
    outbox.put_grant(grant("r3"))
    fault = outbox.overflow.result()
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_SLOW)
    outbox.put_grant(grant("r4"))
    assert await drained(outbox) == []


async def test_closing_lets_out_what_is_inside_and_keeps_the_first_fault() -> None:
    outbox = Outbox(2)
    outbox.put_grant(grant("r1"))
    first = RpcFault(grpc.StatusCode.UNAVAILABLE, "DRAINING", "The end.")
    outbox.close(first)
    outbox.close(RpcFault(grpc.StatusCode.INTERNAL, "INTERNAL", "Another."))
    outbox.put_grant(grant("r2"))
    assert await drained(outbox) == ["grant r1"]
    assert outbox.fault is first


async def test_taking_waits_until_there_is_something() -> None:
    outbox = Outbox(2)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0.01)
    assert not taking.done()
    outbox.put_grant(grant("r1"))
    message = await asyncio.wait_for(taking, 1)
    assert message is not None
    assert message.grant.request_id == "r1"
    ending = asyncio.create_task(outbox.take())
    await asyncio.sleep(0.01)
    outbox.close()
    assert await asyncio.wait_for(ending, 1) is None


@pytest.mark.parametrize("limit", [1, 5])
async def test_the_limit_is_about_answers_alone(limit: int) -> None:
    outbox = Outbox(limit)
    for number in range(50):
        outbox.put_update(update(f"r{number}", 0))
    assert not outbox.overflow.done()
    assert len(outbox) == 50
