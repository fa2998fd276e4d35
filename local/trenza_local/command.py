"""`trenza up`: the whole mesh in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from trenza_local.child import Child, Hopeless
from trenza_local.components import Component, ConfigurationError, Port, components

STOP_GRACE_S = 30.0
"""A little more than the processes' own bound for draining."""
START_LIMIT_S = 120.0
_LOUD = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def up(arguments: Sequence[str]) -> int:
    """Runs the mesh; returns 0 after Ctrl-C, 1 when it could not be started."""
    parser = argparse.ArgumentParser(prog="trenza up", description="Start the whole mesh on this machine; Ctrl-C stops it.")
    parser.add_argument("--verbose", action="store_true", help="show everything that the processes log")
    parser.add_argument("--state", type=Path, default=Path(".trenza"), help="folder for logs (default: .trenza)")
    options = parser.parse_args(arguments)
    try:
        mesh = components(os.environ)
        for component in mesh:
            for port in component.ports:
                require_free(port)
        return asyncio.run(Launcher(mesh, options.state.resolve(), options.verbose).run())
    except (ConfigurationError, Hopeless) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def require_free(port: Port) -> None:
    """Raises ConfigurationError when somebody listens on the port already, or it cannot be had for another reason."""
    if port.number == 0:
        return
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host.strip("[]"), port.number))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            cause = "is taken" if taken else f"cannot be used on {port.host} ({error.strerror})"
            raise ConfigurationError(f"port {port.number} {cause}; choose another with {port.variable}=…") from error


class Launcher:
    """Starts components in order, keeps them running, and stops them in reverse order."""

    def __init__(self, mesh: Sequence[Component], folder: Path, verbose: bool) -> None:
        self._folder = folder
        self._loudness = _LOUD["debug" if verbose else "warning"]
        folder.mkdir(parents=True, exist_ok=True)
        self._children = [Child(component, folder, self._tell) for component in mesh]
        self._stopping = False

    async def run(self) -> int:
        """Runs until a signal. Raises Hopeless when a component cannot start."""
        interrupted = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, interrupted.set)
        failed: asyncio.Future[None] = loop.create_future()
        runs: list[asyncio.Task[None]] = []
        waiting = asyncio.create_task(interrupted.wait())
        try:
            starting = asyncio.create_task(self._start(runs, failed))
            await asyncio.wait({starting, waiting, failed}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
            else:
                starting.result()
                self._summarise()
                await asyncio.wait({waiting, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            return 0
        finally:
            await self._stop(runs)

    async def _start(self, runs: list[asyncio.Task[None]], failed: asyncio.Future[None]) -> None:
        for child in self._children:
            print(f"starting {child.component.name} …", flush=True)
            run = asyncio.create_task(child.run())
            run.add_done_callback(lambda run, name=child.component.name: _note(run, name, failed))
            runs.append(run)
            try:
                await asyncio.wait_for(child.ready.wait(), START_LIMIT_S)
            except TimeoutError:
                log = self._folder / "logs" / f"{child.component.name}.log"
                raise Hopeless(f"{child.component.name} is not ready after {START_LIMIT_S:g} s; see {log}") from None

    async def _stop(self, runs: Sequence[asyncio.Task[None]]) -> None:
        self._stopping = True
        print("stopping …", flush=True)
        for child in reversed(self._children):
            await child.stop(STOP_GRACE_S)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    def _summarise(self) -> None:
        gateway = self._children[-1].ports
        host = os.environ.get("TRENZA_GATEWAY_HOST", "127.0.0.1")
        url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{gateway['http_port']}"
        key = " -H 'authorization: Bearer YOUR-KEY'" if os.environ.get("TRENZA_GATEWAY_API_KEYS_FILE") else ""
        print("\nTrenza is ready.\n")
        print(f"  OpenAI API   {url}/v1        documentation at {url}/docs")
        print(f"  gRPC         {host}:{gateway['grpc_port']}")
        for child in self._children[:-1]:
            shown = "   ".join(f"{name.removesuffix('_port')} {port}" for name, port in child.ports.items())
            print(f"  {child.component.name:<12} {shown}")
        print(f"  logs         {self._folder / 'logs'}\n\nTry it:\n")
        print(f"  curl {url}/v1/chat/completions{key} -H 'content-type: application/json' -d '{{")
        print('    "model": "starter-chat", "messages": [{"role": "user", "content": "What is 7 + 5?"}]}\'')
        print("\nCtrl-C stops everything.", flush=True)

    def _tell(self, name: str, level: str, event: str) -> None:
        if _LOUD.get(level, 20) >= self._loudness and not (self._stopping and level == "warning"):
            print(f"{name}: {event}", file=sys.stderr, flush=True)


def _note(run: asyncio.Task[None], name: str, failed: asyncio.Future[None]) -> None:
    error = None if run.cancelled() else run.exception()
    if error is not None and not failed.done():
        failed.set_exception(Hopeless(f"{name}: {error}") if isinstance(error, Hopeless) else error)
