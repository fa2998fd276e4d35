"""The ports that a mesh listens on: looked at before anything is started, so that a taken one is one clear line."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass


class ConfigurationError(Exception):
    """The mesh cannot be started as it is configured; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Port:
    """A port that a component is going to listen on, and the variable that changes it; 0 is any free one, -1 none."""

    host: str
    number: int
    variable: str


def require_free(ports: Iterable[Port]) -> None:
    """Raises ConfigurationError for the first port that cannot be had: given twice, taken, or not allowed."""
    seen: dict[int, Port] = {}
    for port in ports:
        if port.number <= 0:
            continue
        if other := seen.get(port.number):
            raise ConfigurationError(
                f"port {port.number} is given twice, as {other.variable} and as {port.variable}; "
                f"choose another with {port.variable}=…"
            )
        seen[port.number] = port
        _try(port)


def _try(port: Port) -> None:
    host = port.host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port.number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                cause = "is taken by another process"
            else:
                cause = f"cannot be used on {port.host} ({error.strerror or error})"
            raise ConfigurationError(f"port {port.number} {cause}; choose another with {port.variable}=…") from error
