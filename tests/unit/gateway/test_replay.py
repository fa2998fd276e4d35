"""Uploads that are sent again: every reader gets all of it, in order, whatever became of the readers before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from trenza.audio.v1 import audio_pb2
from trenza_gateway.dispatch.replay import Replay
from trenza_runtime.errors import Reason, RpcFault

Message = audio_pb2.TranscribeRequest


def message(number: int, size_bytes: int = 1) -> Message:
    return Message(chunk=bytes([number]) * size_bytes)


class Source:
    """Gives messages as they are put in."""

    def __init__(self, *messages: Message | None) -> None:
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        for item in messages:
            self._queue.put_nowait(item)

    def put(self, item: Message | None) -> None:
        """Another message; None ends the source."""
        self._queue.put_nowait(item)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (item := await self._queue.get()) is not None:
            yield item


def replay_of(source: Source, kept_bytes: int = 1_000_000) -> Replay[Message]:
    return Replay(aiter(source), kept_bytes)


async def take(messages: AsyncIterator[Message], count: int) -> list[int]:
    """The next messages, as far as there are any, by their first bytes."""
    taken: list[int] = []
    while len(taken) < count and (item := await anext(messages, None)) is not None:
        taken.append(item.chunk[0])
    return taken


async def test_a_second_reader_begins_at_the_beginning() -> None:
    replay = replay_of(Source(message(1), message(2), message(3), None))
    assert await take(replay.messages(), 2) == [1, 2]
    assert await take(replay.messages(), 9) == [1, 2, 3]
    assert await take(replay.messages(), 9) == [1, 2, 3]


async def test_nothing_at_all() -> None:
    replay = replay_of(Source(None))
    assert await take(replay.messages(), 9) == []
    assert await take(replay.messages(), 9) == []


async def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing() -> None:
    source = Source(message(1))
    replay = replay_of(source)
    first = asyncio.ensure_future(take(replay.messages(), 9))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait({first})
    second = asyncio.ensure_future(take(replay.messages(), 9))
    await asyncio.sleep(0.01)
    for item in (message(2), message(3), None):
        source.put(item)
    assert await second == [1, 2, 3]


async def test_a_reader_that_still_waits_when_the_next_begins() -> None:
    source = Source(message(1))
    replay = replay_of(source)
    readers = [asyncio.ensure_future(take(replay.messages(), 9)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for item in (message(2), message(3), None):
        source.put(item)
        await asyncio.sleep(0.01)
    assert [await reader for reader in readers] == [[1, 2, 3]] * 2


async def test_what_is_too_large_is_sent_once() -> None:
    source = Source(*(message(number, 100) for number in range(5)), None)
    replay = replay_of(source, kept_bytes=250)
    assert await take(replay.messages(), 9) == [0, 1, 2, 3, 4]
    with pytest.raises(RpcFault) as caught:
        replay.messages()
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.REPLICA_UNREACHABLE)
    assert caught.value.retry_after_s


async def test_what_is_nearly_too_large_can_still_be_sent_again() -> None:
    replay = replay_of(Source(message(1, 90), message(2, 90), message(3, 90), None), kept_bytes=200)
    assert await take(replay.messages(), 2) == [1, 2]
    assert await take(replay.messages(), 9) == [1, 2, 3]


async def test_a_reader_falls_behind_one_that_loses_the_beginning() -> None:
    replay = replay_of(Source(*(message(number, 100) for number in range(5)), None), kept_bytes=250)
    slow = replay.messages()
    assert await take(slow, 1) == [0]
    assert await take(replay.messages(), 9) == [0, 1, 2, 3, 4]
    with pytest.raises(RpcFault):
        await take(slow, 9)


async def test_a_source_that_breaks() -> None:
    async def broken() -> AsyncIterator[Message]:
        yield message(1)
        raise ConnectionError

    replay: Replay[Message] = Replay(broken())
    for _ in range(2):
        reader = replay.messages()
        assert await take(reader, 1) == [1]
        with pytest.raises(ConnectionError):
            await take(reader, 1)
