"""Merges the answers to several prompts into one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

MessageT = TypeVar("MessageT")

AT_ONCE = 8
"""Prompts of one request that are worked on at the same time."""

BUFFERED = 16
"""Messages that may wait for a slow reader before the replicas are slowed down too."""


async def merge(parts: Sequence[AsyncGenerator[MessageT, None]]) -> AsyncGenerator[tuple[int, MessageT], None]:
    """Every message of every part with the part's number, as they arrive. The first error ends all, as closing does."""
    if len(parts) == 1:
        async with aclosing(parts[0]) as only:
            async for message in only:
                yield 0, message
        return
    queue: asyncio.Queue[tuple[int, MessageT] | Exception | None] = asyncio.Queue(BUFFERED)
    places = asyncio.Semaphore(AT_ONCE)
    pumps = [asyncio.ensure_future(_pump(number, part, places, queue)) for number, part in enumerate(parts)]
    try:
        running = len(pumps)
        while running:
            item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)


async def _pump(
    number: int,
    part: AsyncGenerator[MessageT, None],
    places: asyncio.Semaphore,
    queue: asyncio.Queue[tuple[int, MessageT] | Exception | None],
) -> None:
    """Moves one part's messages into the queue; ends with None or the error."""
    try:
        async with places, aclosing(part) as messages:
            async for message in messages:
                await queue.put((number, message))
        await queue.put(None)
    except Exception as error:
        await queue.put(error)
