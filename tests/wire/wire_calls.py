"""What the wire tests of all modalities share: where a replica is, and what a failed call says."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

import grpc
import pytest
from mesh import Process
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import RpcFault, from_rpc_error


def address_of(replica: Process) -> str:
    """host:port of a replica's gRPC server."""
    return f"127.0.0.1:{replica.ports['grpc_port']}"


def context(model: str) -> common_pb2.RequestContext:
    """A request's context; two clients may well choose the same id."""
    return common_pb2.RequestContext(model=model, request_id="same for all")


async def messages_of(call: AsyncIterable[Any]) -> list[Any]:
    """Everything that a call answers."""
    return [message async for message in call]


async def fault_of(call: AsyncIterable[Any]) -> RpcFault:
    """How a call fails, which it must."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await messages_of(call)
    return from_rpc_error(caught.value)
