"""The life of a process: it starts, says so, waits for a signal, stops."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import uvloop
from pydantic import BaseModel, ValidationError

log = logging.getLogger(__name__)

EXIT_CONFIGURATION = 2
"""Exit code of a process that cannot start as it is configured; starting it again would not help."""


class StartError(Exception):
    """The process cannot start; the message is one sentence that says what to do."""


SettingsT = TypeVar("SettingsT", bound=BaseModel)


def read_settings(kind: type[SettingsT]) -> SettingsT:
    """The process's settings from its environment. Raises StartError naming the first variable that is wrong."""
    try:
        return kind()
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        prefix = str(kind.model_config.get("env_prefix", ""))
        variable = prefix + "_".join(str(part).upper() for part in mistake["loc"])
        raise StartError(f"{variable} is {mistake.get('input')!r}: {mistake['msg']}") from None


class Stopping:
    """Set by the first SIGTERM or SIGINT. The second ends the process at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Returns when the process is to stop."""
        await self._event.wait()

    @property
    def requested(self) -> bool:
        """Whether the process is to stop."""
        return self._event.is_set()

    def request(self) -> None:
        """Asks the process to stop, as a signal does."""
        self._event.set()


def run(main: Callable[[Stopping], Awaitable[None]]) -> None:
    """Runs a process's main function and exits: 0 after a requested stop, 2 where it cannot start, 1 after a crash."""
    try:
        uvloop.run(_with_signals(main))
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  the one line for whoever started it
        sys.exit(EXIT_CONFIGURATION)
    except Exception:
        log.exception("crashed")
        sys.exit(1)


async def _with_signals(main: Callable[[Stopping], Awaitable[None]]) -> None:
    stopping = Stopping()

    def on_signal() -> None:
        if stopping.requested:
            os._exit(1)
        stopping.request()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await main(stopping)


def announce_ready(**ports: int) -> None:
    """Logs that the process is ready, and where; writes the same as JSON to the file that TRENZA_READY_FILE names."""
    log.info("ready", extra=ports)
    if name := os.environ.get("TRENZA_READY_FILE"):
        path = Path(name)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(ports))
        draft.replace(path)
