"""Serves a process's Prometheus metrics, and counts its RPCs."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Histogram, start_http_server

from trenza_runtime.lifecycle import StartError

RPCS = Counter("trenza_rpc_requests", "RPCs answered.", ["method", "code"])
RPC_SECONDS = Histogram(
    "trenza_rpc_seconds",
    "Time from the arrival of an RPC to its end.",
    ["method"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1200),
)


@dataclass(frozen=True)
class MetricsServer:
    """`/metrics` on a port of its own, served from a thread so that a busy event loop does not hide itself."""

    port: int
    _server: WSGIServer
    _thread: Thread

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def serve_metrics(host: str, port: int) -> MetricsServer | None:
    """Serves `/metrics`; port 0 takes any free one, -1 serves none. Raises StartError when the port is taken."""
    if port < 0:
        return None
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as error:
        raise StartError(f"cannot serve metrics on {host}:{port}: {error.strerror}") from error
    return MetricsServer(server.server_port, server, thread)
