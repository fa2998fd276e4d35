"""What a service and its worker process say to one another, and how it travels over their socket.

Frames are pickles behind a length. Both ends are this project's own code on one machine, started by one another.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from trenza_runtime.worker.engine import Emission, ModelFacts

MAX_FRAME_BYTES = 256 * 2**20
"""Largest frame; a picture or a minute of sound is far below. A larger one means that the stream is out of step."""

_LENGTH = struct.Struct("!I")
HEAD_BYTES = _LENGTH.size


@dataclass(frozen=True, slots=True)
class Load:
    """To the worker, first and once: what to load. `loader` is an import path, `package.module:function`."""

    loader: str
    spec: Any


@dataclass(frozen=True, slots=True)
class Submit:
    """To the worker: run a request."""

    request_id: str
    request: Any


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the worker: forget a request."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """To the worker: free the model and end."""


@dataclass(frozen=True, slots=True)
class Loading:
    """From the worker: the part of the model that is loaded, 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """From the worker: the model answers now."""

    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """From the worker: the model cannot be loaded; the worker ends."""

    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Events:
    """From the worker: what one step of the engine brought, for all its requests."""

    emissions: tuple[Emission, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """From the worker, about once a second: it is alive, and these are its gauges."""

    gauges: Mapping[str, float]


ToWorker: TypeAlias = Load | Submit | Cancel | Close
FromWorker: TypeAlias = Loading | Loaded | LoadFailed | Events | Pulse


def pack(frame: ToWorker | FromWorker) -> bytes:
    """A frame as bytes. Raises ValueError above `MAX_FRAME_BYTES`."""
    body = pickle.dumps(frame, protocol=5)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes is above the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def body_bytes(head: bytes) -> int:
    """The length of the body that follows a head. Raises ValueError above `MAX_FRAME_BYTES`."""
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes is above the limit of {MAX_FRAME_BYTES}")
    return int(length)


def unpack(body: bytes) -> Any:
    """The frame in a body."""
    return pickle.loads(body)  # noqa: S301  from our own child or parent, see the module's first lines
