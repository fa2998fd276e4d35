"""`python -m trenza_gateway`: starts the gateway, runs until a signal, drains."""

from __future__ import annotations

import resource

from pydantic import ValidationError
from trenza_runtime.lifecycle import StartError, Stopping, announce_ready, run
from trenza_runtime.telemetry import logs

from trenza_gateway.gateway import Gateway
from trenza_gateway.settings import Settings

SPARE_FILES = 256
"""Files that are not client connections: replicas, the scheduler, the log."""


async def main(stopping: Stopping) -> None:
    """Raises StartError, with one line that says what to do, when the gateway cannot start."""
    settings = read_settings()
    settings.connection_limit = min(settings.connection_limit, max(1, raise_file_limit() - SPARE_FILES))
    gateway = Gateway(settings)
    await gateway.start()
    announce_ready(**gateway.ports)
    await stopping.wait()
    await gateway.drain()


def read_settings() -> Settings:
    """The settings and the logging that the environment asks for. Raises StartError."""
    try:
        logs.configure("gateway")
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(step) for step in first["loc"]).upper()
        raise StartError(f"TRENZA_GATEWAY_{name}: {first['msg']}") from error
    except ValueError as error:
        raise StartError(str(error)) from error


def raise_file_limit() -> int:
    """Lets the process open as many files as the system allows; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


if __name__ == "__main__":
    run(main)
