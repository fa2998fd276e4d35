"""uvicorn inside the gateway's event loop, with a guard on every connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc.certificates import CertificateFiles

from trenza_gateway.connections import ConnectionLimits, guarded_protocol, sweep

BACKLOG = 2048
FAREWELL_S = 1.0
"""How long requests that are cut off at the end may take to tell their clients."""
SWEEP_EVERY_TICKS = 10
"""uvicorn ticks ten times a second."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """`keep_alive_s`: how long an idle connection is kept; the others see `ConnectionLimits`."""

    keep_alive_s: int
    connections: ConnectionLimits


class HttpServer:
    """Listens from `start` to `drain`."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, limits: HttpLimits, certificate: CertificateFiles | None = None
    ) -> None:
        """With a certificate it speaks HTTPS, and shows each connection what the files hold when it begins."""
        self._app = app
        self._certificate = certificate
        self._host = host
        self._port = port
        self._limits = limits
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Starts serving and returns the port. Raises StartError when the port is taken."""
        logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it greets, and complains of what clients send
        listener = _listen(self._host, self._port)
        config = uvicorn.Config(
            self._app,
            http=guarded_protocol(self._limits.connections),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=self._limits.keep_alive_s,
        )
        config.load()
        config.ssl = None if self._certificate is None else _following(self._certificate)
        self._server = _Server(config, self._limits.connections)
        self._serving = asyncio.ensure_future(self._server.serve([listener]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.005)
        return int(listener.getsockname()[1])

    async def drain(self, grace_s: float) -> None:
        """Stops accepting, lets running requests finish for `grace_s` seconds, and cuts off the rest."""
        if self._server is None or self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await self._serving
        if cut_off := self._server.server_state.tasks:
            await asyncio.wait(cut_off, timeout=FAREWELL_S)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, and with a regular look at every connection."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self._limits = limits

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.ssl is None or sockets is None:
            await super().startup(sockets)
            return
        # As uvicorn does it, but a client that dawdles over its handshake has no more time than one that does over its head.
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        self.servers = [
            await loop.create_server(
                protocol,
                sock=listener,
                ssl=config.ssl,
                ssl_handshake_timeout=self._limits.head_s,
                backlog=config.backlog,
            )
            for listener in sockets
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_EVERY_TICKS == 0:
            sweep(self.server_state.connections, self._limits, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _following(files: CertificateFiles) -> ssl.SSLContext:
    """A context whose every handshake takes the certificate that is in the files then."""
    context = files.current().context

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = files.current().context

    context.sni_callback = choose  # called for clients that name no server, too
    return context


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what listens there or set TRENZA_GATEWAY_HTTP_PORT"
        ) from error
    listener.set_inheritable(False)
    return listener
