"""Ends a call's work when its caller's time is up, or the server's own limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from trenza_runtime.errors import Reason, RpcFault


@asynccontextmanager
async def time_limit(context: grpc.aio.ServicerContext[Any, Any], most_s: float) -> AsyncIterator[float]:
    """Ends the block when the caller's deadline has come, after `most_s` at the latest; the value is that time in seconds.

    Raises RpcFault (DEADLINE_EXCEEDED) then.
    """
    remaining_s = context.time_remaining()
    limit_s = most_s if remaining_s is None else min(remaining_s, most_s)
    try:
        async with asyncio.timeout(limit_s):
            yield limit_s
    except TimeoutError as error:
        message = f"The request was not done within {limit_s:.0f} seconds."
        raise RpcFault(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message) from error
