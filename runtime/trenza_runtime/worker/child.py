"""The worker process: loads one model, then runs its engine's steps until it is told to close or its parent is gone.

Started by `trenza_runtime.worker.process` as `python -m trenza_runtime.worker.child NAME SOCKET LOG PARENT`: the model's name,
its end of a socket pair, a file descriptor for its log and its parent's process id. What native code prints on standard output
and error is read by the parent.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator

from trenza_runtime.telemetry import logs
from trenza_runtime.worker import frames
from trenza_runtime.worker.engine import Engine, EngineLoader, ModelLoadError

log = logging.getLogger(__name__)

_PULSE_S = 1.0
_PR_SET_PDEATHSIG = 1


class ParentGone(Exception):
    """The other end of the socket is closed."""


class Wire:
    """The worker's end of the socket: blocking writes, reads that may wait or not."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    def send(self, frame: frames.FromWorker) -> None:
        """Raises ParentGone when nobody listens."""
        try:
            self._socket.sendall(frames.pack(frame))
        except OSError as error:
            raise ParentGone from error

    def receive(self, wait_s: float) -> Iterator[frames.ToWorker]:
        """The frames that are there, or that arrive within `wait_s`. Raises ParentGone at the end of the stream."""
        while select.select([self._socket], [], [], wait_s)[0]:
            chunk = self._socket.recv(2**20)
            if not chunk:
                raise ParentGone
            self._buffer += chunk
            wait_s = 0.0
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> frames.ToWorker | None:
        if len(self._buffer) < frames.HEAD_BYTES:
            return None
        end = frames.HEAD_BYTES + frames.body_bytes(bytes(self._buffer[: frames.HEAD_BYTES]))
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[frames.HEAD_BYTES : end])
        del self._buffer[:end]
        frame: frames.ToWorker = frames.unpack(body)
        return frame


def main() -> None:
    """Runs the worker until it is told to close. Exit code 1 means that the engine broke."""
    name, connection_fd, log_fd, parent_pid = sys.argv[1], *(int(argument) for argument in sys.argv[2:5])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent(parent_pid)
    faulthandler.enable()
    sys.stderr = os.fdopen(log_fd, "w", buffering=1)
    logs.configure(f"worker[{name}]")
    wire = Wire(socket.socket(fileno=connection_fd))
    try:
        engine = _load(wire)
        if engine is not None:
            _serve(wire, engine)
            engine.close()
    except ParentGone:
        os._exit(0)  # nobody is left to free the model for
    except Exception:
        log.exception("the engine broke")
        sys.exit(1)


def _die_with_parent(parent_pid: int) -> None:
    """Asks Linux to kill this process when its parent dies, even while native code keeps it from noticing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(0)  # it died before it could be asked for


def _load(wire: Wire) -> Engine | None:
    first = next(iter(wire.receive(wait_s=60)), None)
    if not isinstance(first, frames.Load):
        raise ParentGone
    try:
        loader = _loader(first.loader)
        engine = loader(first.spec, lambda fraction: wire.send(frames.Loading(fraction)))
    except ModelLoadError as error:
        wire.send(frames.LoadFailed(str(error), error.reason))
    except ParentGone:
        raise
    except MemoryError:
        wire.send(frames.LoadFailed("there is not enough memory for the model", "OUT_OF_MEMORY"))
    except Exception as error:
        log.exception("the engine cannot load the model")
        wire.send(frames.LoadFailed(f"the engine failed with {type(error).__name__}: {error}", "MODEL_LOAD_FAILED"))
    else:
        wire.send(frames.Loaded(engine.facts))
        return engine
    return None


def _loader(path: str) -> EngineLoader:
    """The function that an import path names. Raises ModelLoadError when there is none."""
    module, _, function = path.partition(":")
    try:
        loader: EngineLoader = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelLoadError(f"the engine {path} is not installed: {error}", "ENGINE_MISSING") from error
    return loader


def _serve(wire: Wire, engine: Engine) -> None:
    pulse_due_s = 0.0
    while True:
        for frame in wire.receive(wait_s=0.0 if engine.busy else _PULSE_S):
            match frame:
                case frames.Submit():
                    engine.submit(frame.request_id, frame.request)
                case frames.Cancel():
                    engine.cancel(frame.request_id)
                case _:
                    return
        if engine.busy and (emissions := engine.step()):
            wire.send(frames.Events(tuple(emissions)))
        now_s = time.monotonic()
        if now_s >= pulse_due_s:
            wire.send(frames.Pulse(engine.gauges()))
            pulse_due_s = now_s + _PULSE_S


if __name__ == "__main__":
    main()
