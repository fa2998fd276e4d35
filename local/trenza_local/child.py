"""One supervised process: started, watched, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from trenza_local import leash
from trenza_local.components import Component
from trenza_local.core.restarts import EXIT_CONFIGURATION, History
from trenza_local.output import NEWS, Line, Output

LINE_BYTES = 2**20
"""Longest line of a component's output; longer ones are dropped."""
_READY_POLL_S = 0.05
_REST_OF_OUTPUT_S = 1.0
_KILL_LIMIT_S = 5.0


class Hopeless(Exception):
    """A component cannot run; the message is one line that says why."""


class Child:
    """Keeps one component running until it is told to stop. `tell` is called with every line that it says."""

    def __init__(
        self, component: Component, ready_file: Path, log_file: Path, tell: Callable[[str, Line], None]
    ) -> None:
        self.component = component
        self.ready = asyncio.Event()
        self.ports: Mapping[str, int] = {}
        self.log_file = log_file
        self._ready_file = ready_file
        self._output = Output(log_file)
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._lives = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """The task that keeps the process running; it ends after `stop`, or with Hopeless."""
        self._task = asyncio.create_task(self._keep_running())
        return self._task

    async def stop(self, grace_s: float) -> None:
        """Asks the process to end and waits; kills it after `grace_s` seconds."""
        self._stopping.set()
        if self._task is None:
            return
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        _, late = await asyncio.wait({self._task}, timeout=grace_s)
        if late:
            self._say(f"did not stop within {grace_s:g} s and is killed")
            self.kill()
            await asyncio.wait({self._task}, timeout=_KILL_LIMIT_S)
        self._output.close()

    def kill(self) -> None:
        """Ends the process at once, and what it has started in its session."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep_running(self) -> None:
        history = History()
        while not self._stopping.is_set():
            begun = time.monotonic()
            exit_code = await self._live()
            if self._stopping.is_set():
                return
            history = history.died(exit_code, time.monotonic() - begun, self.ready.is_set())
            words = self._output.last_words()
            if history.is_hopeless:
                raise Hopeless(f"{self.component.name}: {self._obituary(exit_code, words)}")
            told = f": {words}" if words and exit_code > 0 else ""
            self._say(f"ended with {_cause(exit_code)}{told}; starting it again in {history.delay_s:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), history.delay_s)

    async def _live(self) -> int:
        """One life of the process, from start to end; returns its exit code."""
        self.ready.clear()
        self._ready_file.unlink(missing_ok=True)
        self._output.forget()
        self._lives += 1
        self._process = process = await self._spawn()
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        watching = asyncio.create_task(self._watch_for_ready())
        try:
            exit_code = await process.wait()
            await asyncio.wait({reading}, timeout=_REST_OF_OUTPUT_S)  # a grandchild may hold the pipe a while longer
            self._look_for_ready()
            return exit_code
        finally:
            watching.cancel()
            reading.cancel()

    async def _spawn(self) -> asyncio.subprocess.Process:
        own = {"TRENZA_LOG_FORMAT": "json", "TRENZA_READY_FILE": str(self._ready_file)}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid())),
            *(sys.executable, "-m", self.component.module),
            env={"GRPC_VERBOSITY": "ERROR", **os.environ, **self.component.environment, **own},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES,
            start_new_session=True,  # a terminal's Ctrl-C is for the launcher, which stops the others in order
        )

    async def _watch_for_ready(self) -> None:
        while not self._look_for_ready():  # noqa: ASYNC110  it waits for a file, of which nobody tells
            await asyncio.sleep(_READY_POLL_S)

    def _look_for_ready(self) -> bool:
        if not self.ready.is_set() and self._ready_file.exists():
            self.ports = json.loads(self._ready_file.read_text())
            self.ready.set()
            if self._lives > 1:
                self._say("is ready again")
        return self.ready.is_set()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # longer than the limit
                continue
            if not raw:
                return
            self._tell(self.component.name, self._output.add(raw))

    def _obituary(self, exit_code: int, words: str) -> str:
        if exit_code == EXIT_CONFIGURATION and words:
            return words
        return f"{words or 'ended with ' + _cause(exit_code)} (see {self.log_file})"

    def _say(self, text: str) -> None:
        self._tell(self.component.name, Line(NEWS, text))


def _cause(exit_code: int) -> str:
    return f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
