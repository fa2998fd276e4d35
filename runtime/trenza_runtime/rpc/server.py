"""A gRPC server with health, reflection, limits, logs, metrics and a graceful end."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from inspect import isasyncgenfunction
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from trenza_runtime.errors import Reason, RpcFault, abort
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc.channel import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S, MAX_MESSAGE_BYTES
from trenza_runtime.rpc.peers import Roles, require_role, roles_for
from trenza_runtime.telemetry.logs import bind_request_id
from trenza_runtime.telemetry.metrics import RPC_SECONDS, RPCS

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
HANDSHAKE_S = 10
"""How long a new connection may take until it can carry calls."""
_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")
_MAX_REQUEST_ID_CHARS = 128


@dataclass(frozen=True)
class RpcService:
    """A service to serve: its full name in the protos, and what adds it to a server."""

    name: str
    add: Callable[[grpc.aio.Server], None]


@dataclass(frozen=True)
class RpcLimits:
    """What a server takes on. Calls beyond `concurrent_rpcs` are refused with RESOURCE_EXHAUSTED."""

    concurrent_rpcs: int = 2048
    message_bytes: int = MAX_MESSAGE_BYTES


class RpcServer:
    """Serves some services on one port, with standard health per service name and reflection."""

    def __init__(
        self,
        host: str,
        port: int,
        services: Sequence[RpcService],
        limits: RpcLimits | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        credentials: grpc.ServerCredentials | None = None,
        roles: Roles | None = None,
    ) -> None:
        """Without credentials it serves in the clear. With `roles`, secured callers are held to them; health and reflection
        answer whoever gets as far as that."""
        self._host, self._port, self._services = host, port, services
        self._limits = limits or RpcLimits()
        self._credentials = credentials
        self._calls = _Calls(roles)
        self._interceptors = (self._calls, *interceptors)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._health_changes: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Calls being answered, health and reflection left out."""
        return self._calls.in_flight

    async def start(self) -> int:
        """Starts serving and returns the port. Raises StartError when the port is taken."""
        server = grpc.aio.server(
            interceptors=self._interceptors,
            maximum_concurrent_rpcs=self._limits.concurrent_rpcs,
            options=_options(self._limits),
        )
        for service in self._services:
            service.add(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.name for service in self._services]
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection([*names, health_name, reflection.SERVICE_NAME], server)
        port = bind_port(server, self._host, self._port, self._credentials)
        await server.start()
        self._server = server
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    def set_serving(self, name: str, serving: bool) -> None:
        """Says whether a service is healthy; "" is the process as a whole."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        change = asyncio.ensure_future(self._health.set(name, status))
        self._health_changes.add(change)
        change.add_done_callback(self._health_changes.discard)

    async def drain(self, grace_s: float) -> None:
        """Says NOT_SERVING, refuses new calls, lets running ones finish for `grace_s` seconds, cancels the rest and stops."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        self._calls.draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calls.idle.wait(), grace_s)
        if self.in_flight:
            log.warning("calls cut off at the end of the drain", extra={"calls": self.in_flight})
        # A moment for the cancelled calls to clean up; then the connections close.
        await self._server.stop(1.0 if self.in_flight else None)
        self._server = None


def bind_port(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> int:
    """Lets a server listen, in the clear without credentials; returns the port. Raises StartError when it is taken."""
    bare = host.strip("[]")
    address = f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise StartError(f"cannot listen on {address}, another process probably does") from error


def _options(limits: RpcLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        # Clients probe every KEEPALIVE_S; a server that allows it less often than they do answers with GOAWAY.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_S * 1000 // 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ]


class _Calls(grpc.aio.ServerInterceptor):
    """Counts, logs and guards every call that is not infrastructure."""

    def __init__(self, roles: Roles | None = None) -> None:
        self._roles = roles
        self.in_flight = 0
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_INFRASTRUCTURE):
            return handler
        request_id = _request_id(handler_call_details)
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(handler.stream_stream, method, request_id),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(handler.unary_stream, method, request_id),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._single(handler.stream_unary, method, request_id),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._single(handler.unary_unary, method, request_id),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _single(self, behaviour: Any, method: str, request_id: str) -> Any:
        async def call(request: Any, context: Context) -> Any:
            return await self._observed(lambda: behaviour(request, context), context, method, request_id)

        return call

    def _streaming(self, behaviour: Any, method: str, request_id: str) -> Any:
        """A handler that writes: unlike a generator's, its clean-up runs at once when the call is cancelled."""

        async def write_all(request: Any, context: Context) -> None:
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)

        write = write_all if isasyncgenfunction(behaviour) else behaviour

        async def call(request: Any, context: Context) -> None:
            await self._observed(lambda: write(request, context), context, method, request_id)

        return call

    async def _observed(
        self, behaviour: Callable[[], Awaitable[Any]], context: Context, method: str, request_id: str
    ) -> Any:
        if self.draining:
            RPCS.labels(method, grpc.StatusCode.UNAVAILABLE.name).inc()
            await abort(context, RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.DRAINING, "This process is stopping."))
        self.in_flight += 1
        self.idle.clear()
        begun_s, code = time.monotonic(), grpc.StatusCode.OK
        with bind_request_id(request_id):
            try:
                if self._roles is not None:
                    require_role(context, roles_for(method, self._roles))
                return await behaviour()
            except asyncio.CancelledError:
                remaining_s = context.time_remaining()
                late = remaining_s is not None and remaining_s <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise
            except RpcFault as fault:
                code = fault.code
                log.info("refused", extra={"method": method, "code": code.name, "reason": fault.reason})
                await abort(context, fault)
            except grpc.aio.AbortError:
                code = grpc.StatusCode.UNKNOWN  # grpc keeps the status of such an end to itself
                raise
            except Exception:
                code = grpc.StatusCode.INTERNAL
                log.exception("call failed", extra={"method": method})
                await abort(context, RpcFault(code, Reason.INTERNAL, "The server made a mistake; its log says more."))
            finally:
                self.in_flight -= 1
                if not self.in_flight:
                    self.idle.set()
                seconds = time.monotonic() - begun_s
                RPCS.labels(method, code.name).inc()
                RPC_SECONDS.labels(method).observe(seconds)
                log.debug("call", extra={"method": method, "code": code.name, "seconds": round(seconds, 4)})


def _request_id(details: grpc.HandlerCallDetails) -> str:
    for key, value in details.invocation_metadata or ():
        if key == "x-request-id" and isinstance(value, str):
            return value[:_MAX_REQUEST_ID_CHARS]
    return uuid.uuid4().hex
