"""A port that answers whether the process lives, has started and is ready, in the clear, for probes that cannot speak TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trenza_runtime.rpc.server import bind_port

Context = grpc.aio.ServicerContext[Any, Any]
_CONCURRENT_CALLS = 64
_WATCH_EVERY_S = 0.5


class ProbePort:
    """`grpc.health.v1.Health` and nothing else, from `start` to `close`, also while the process drains.

    The services are `liveness`, which is SERVING whenever the event loop answers; `startup`, SERVING once `started` was called;
    and `readiness`, which is what `ready` says from then on until `stopping` was called. The empty name is `readiness` too.
    """

    def __init__(self, host: str, port: int, ready: Callable[[], bool] = lambda: True) -> None:
        """Port 0 is any free one, -1 none: then nothing is served."""
        self._host, self._port, self._ready = host, port, ready
        self._started = self._stopping = False
        self._server: grpc.aio.Server | None = None

    async def start(self) -> dict[str, int]:
        """Begins to answer; returns the port as `health_port`, or nothing where there is none. Raises StartError."""
        if self._port < 0:
            return {}
        server = grpc.aio.server(maximum_concurrent_rpcs=_CONCURRENT_CALLS, options=[("grpc.so_reuseport", 0)])
        statuses = {
            "": self._is_ready,
            "liveness": lambda: True,
            "readiness": self._is_ready,
            "startup": lambda: self._started,
        }
        health_pb2_grpc.add_HealthServicer_to_server(_Servicer(statuses), server)
        port = bind_port(server, self._host, self._port)
        await server.start()
        self._server = server
        return {"health_port": port}

    def started(self) -> None:
        """The process serves."""
        self._started = True

    def stopping(self) -> None:
        """The process takes nothing new."""
        self._stopping = True

    async def close(self) -> None:
        """Ends answering, the last thing that a process does."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def _is_ready(self) -> bool:
        return self._started and not self._stopping and self._ready()


class _Servicer(health_pb2_grpc.HealthServicer):
    """Asks anew at each call; who watches is told of changes."""

    def __init__(self, statuses: Mapping[str, Callable[[], bool]]) -> None:
        self._statuses = statuses

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there are liveness, readiness and startup")
        return self._answer(request.service)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, _context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        told = None
        while True:
            answer = self._answer(request.service)
            if answer != told:
                yield answer
                told = answer
            await asyncio.sleep(_WATCH_EVERY_S)

    def _answer(self, service: str) -> health_pb2.HealthCheckResponse:
        ask = self._statuses.get(service)
        if ask is None:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        status = health_pb2.HealthCheckResponse.SERVING if ask() else health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)
