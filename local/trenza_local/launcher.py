"""Starts the components of a mesh in order, keeps them running, and stops them in the opposite order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from trenza_local.child import Child, Hopeless
from trenza_local.components import Component, reachable
from trenza_local.core.order import waves
from trenza_local.output import Line
from trenza_local.summary import listening, summary

START_LIMIT_S = 120.0
STOP_GRACE_S = 30.0
"""A little more than the components' own bound for draining."""
MODELS_LIMIT_S = 15.0
"""How long the summary waits for models to load. Requests may come earlier, and wait."""
_MODELS_POLL_S = 0.3
_NAMED = (logging.WARNING, logging.ERROR, logging.CRITICAL)


class Launcher:
    """Runs a mesh in the foreground."""

    def __init__(
        self, mesh: Sequence[Component], folder: Path, verbose: bool, stop_grace_s: float = STOP_GRACE_S
    ) -> None:
        self._mesh = {component.name: component for component in mesh}
        self._folder = folder
        self._level = logging.DEBUG if verbose else logging.WARNING
        self._stop_grace_s = stop_grace_s
        self._width = max(len(name) for name in self._mesh)
        self._children: dict[str, Child] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Runs until SIGINT, SIGTERM or SIGHUP. Raises Hopeless when a component cannot run."""
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listen_to_signals()
        logs = self._folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="run-", dir=self._folder) as ready:
            self._children = {
                name: Child(component, Path(ready) / f"{name}.json", logs / f"{name}.log", self._show)
                for name, component in self._mesh.items()
            }
            starting = self._watch(asyncio.create_task(self._start()))
            try:
                await self._end
            finally:
                starting.cancel()
                await self._stop()

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if not self._end.done():
            self._end.set_result(None)
            return
        for child in self._children.values():  # asked a second time: no more patience
            child.kill()

    def _watch(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Lets the mesh end with the task's error."""
        self._watchers.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._watchers.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._end.done():
            self._end.set_exception(error)

    async def _start(self) -> None:
        begun = time.monotonic()
        say("Starting Trenza …")
        for wave in waves({name: component.needs for name, component in self._mesh.items()}):
            for name in wave:
                self._watch(self._children[name].start())
            for name in wave:
                await self._await_ready(self._children[name])
        await self._summarise()
        say(f"Started in {time.monotonic() - begun:.1f} s. Ctrl-C stops everything.")

    async def _await_ready(self, child: Child) -> None:
        try:
            await asyncio.wait_for(child.ready.wait(), START_LIMIT_S)
        except TimeoutError:
            message = f"{child.component.name} is not ready after {START_LIMIT_S:g} s (see {child.log_file})"
            raise Hopeless(message) from None
        say(f"  {child.component.name:<{self._width}}  {listening(child.component, child.ports)}")

    async def _summarise(self) -> None:
        from trenza_runtime.lifecycle import StartError
        from trenza_runtime.rpc.tls import read_transport

        from trenza_local import fleet  # all this takes a moment to import, which the components need more

        try:
            transport = read_transport()
        except StartError as error:
            raise Hopeless(str(error)) from error
        scheduler, gateway = self._mesh["scheduler"], self._mesh["gateway"]
        address = f"{reachable(scheduler.host)}:{self._children['scheduler'].ports['grpc_port']}"
        end = time.monotonic() + MODELS_LIMIT_S
        while True:
            models = await fleet.known_models(transport, address, len(gateway.uses))
            if time.monotonic() > end or (models is not None and all(model.settled for model in models)):
                break
            await asyncio.sleep(_MODELS_POLL_S)
        keys_needed = bool(os.environ.get("TRENZA_GATEWAY_API_KEYS_FILE"))
        say("\n" + summary(gateway, self._children["gateway"].ports, models, self._folder / "logs", keys_needed))

    async def _stop(self) -> None:
        say("\nStopping …")
        before = {name: (*component.needs, *component.uses) for name, component in self._mesh.items()}
        for wave in reversed(waves(before)):
            await asyncio.gather(*(self._children[name].stop(self._stop_grace_s) for name in wave))
        say("Stopped.")

    def _show(self, name: str, line: Line) -> None:
        if line.level >= self._level and line.text:
            word = f"{logging.getLevelName(line.level).lower()}: " if line.level in _NAMED else ""
            say(f"{name:<{self._width}}  {word}{line.text}", error=True)


def say(text: str, error: bool = False) -> None:
    """Prints at once. A terminal that is gone is no reason to stop serving."""
    try:
        print(text, file=sys.stderr if error else sys.stdout, flush=True)
    except OSError:
        return
