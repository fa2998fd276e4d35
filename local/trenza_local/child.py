"""One supervised process: started, watched, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from trenza_local.components import Component
from trenza_local.core.restarts import History, is_hopeless

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 10 * 2**20
_LINE_BYTES = 2**20
_POLL_S = 0.05
_TAIL_LINES = 20


class Hopeless(Exception):
    """A process cannot start as it is configured; the message is what it said."""


class Child:
    """Keeps one component running until it is told to stop."""

    def __init__(self, component: Component, folder: Path, tell: Callable[[str, str, str], None]) -> None:
        self.component = component
        self.ports: dict[str, int] = {}
        self.ready = asyncio.Event()
        self._tell = tell
        self._ready_file = folder / f"{component.name}.ready"
        self._log = _line_log(component.name, folder / "logs")
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def run(self) -> None:
        """Runs the process, and again when it dies. Returns after `stop`; raises Hopeless when starting again is no use."""
        history = History()
        while not self._stopping:
            begun = time.monotonic()
            exit_code, was_ready = await self._run_once()
            if self._stopping:
                return
            if is_hopeless(exit_code, was_ready):
                raise Hopeless(self._last_words())
            history = history.died(time.monotonic() - begun)
            cause = f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
            self._tell(self.component.name, "warning", f"ended ({cause}); starting it again in {history.delay_s:g} s")
            await asyncio.sleep(history.delay_s)

    async def stop(self, grace_s: float) -> None:
        """Asks the process to end and waits; kills it after `grace_s` seconds."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            self._tell(self.component.name, "warning", f"did not stop within {grace_s:g} s and was killed")
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _run_once(self) -> tuple[int, bool]:
        self.ready.clear()
        self._ready_file.unlink(missing_ok=True)
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.component.module,
            env={
                **os.environ,
                **self.component.environment,
                "TRENZA_LOG_FORMAT": "json",
                "TRENZA_READY_FILE": str(self._ready_file),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES,
            start_new_session=True,  # a terminal's Ctrl-C is for the launcher, which stops the others in order
            preexec_fn=_die_with_launcher,
        )
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        watching = asyncio.create_task(self._await_ready())
        try:
            exit_code = await process.wait()
            with suppress(TimeoutError):  # a grandchild may hold the pipe a moment longer
                await asyncio.wait_for(reading, 1)
            return exit_code, self.ready.is_set()
        finally:
            watching.cancel()
            reading.cancel()

    async def _await_ready(self) -> None:
        while not self._ready_file.exists():
            await asyncio.sleep(_POLL_S)
        self.ports = json.loads(self._ready_file.read_text())
        self.ready.set()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the limit: what was read so far is dropped
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._log.info(text)
            level, event = _level_and_event(text)
            self._tail.append(event)
            self._tell(self.component.name, level, event)

    def _last_words(self) -> str:
        spoken = [line.removeprefix("error: ") for line in self._tail if line.startswith("error: ")]
        return spoken[-1] if spoken else "\n".join(self._tail) or "it said nothing"


def _die_with_launcher() -> None:
    """Runs in the child before it becomes the component: Linux kills it when the launcher dies, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _line_log(name: str, folder: Path) -> logging.Logger:
    """A file for everything that the process says, of bounded size."""
    folder.mkdir(parents=True, exist_ok=True)
    log = logging.Logger(name)
    log.addHandler(RotatingFileHandler(folder / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=1))
    return log


def _level_and_event(line: str) -> tuple[str, str]:
    """A line of the process: one of its JSON log lines, or whatever a native library wrote."""
    if not line.startswith("{"):
        return ("error" if line.startswith("error: ") else "debug"), line
    try:
        record = json.loads(line)
        level, event = str(record["level"]), str(record["event"])
    except (ValueError, KeyError, TypeError):
        return "debug", line
    known = ("time", "level", "component", "logger", "event", "exception")
    fields = "".join(f" {key}={value}" for key, value in record.items() if key not in known)
    return level, f"{event}{fields}"
