"""Answers that are one message, out of the stream that every dispatched call is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import grpc
from trenza_runtime.errors import Reason, RpcFault

_T = TypeVar("_T")


async def only(messages: AsyncGenerator[_T, None]) -> _T:
    """The one message of an answer, which is read to its end so that it counts as completed."""
    async with aclosing(messages):
        found = [message async for message in messages]
    if len(found) != 1:
        raise RpcFault(grpc.StatusCode.INTERNAL, Reason.INTERNAL, "The replica sent no answer.")
    return found[0]
