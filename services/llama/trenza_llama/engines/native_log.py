"""Sends llama.cpp's log to Python's logging (at debug) and keeps the latest lines, which say why a load failed."""

from __future__ import annotations

import logging
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from llama_cpp import llama_cpp as native
from llama_cpp import mtmd_cpp
from trenza_runtime.worker.engine import ModelLoadError

_logger = logging.getLogger("trenza_llama.native")

_ERROR = 4
_CONTINUED = 5
_MAX_LINES = 4000

_PROJECTOR_DEVICE = re.compile(r"CLIP using (\S+) backend")
_PROJECTOR_WEIGHTS = re.compile(r"load_hparams: model size:\s+([\d.]+) MiB")
_BUFFER = re.compile(r"(\S+)\s+(?:model|KV|RS|compute|output)\s+buffer size\s*=\s*([\d.]+)\s*MiB")


class LogLines:
    """The lines written while a model was loaded, oldest first, at most the latest 4000."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=_MAX_LINES)

    def add(self, level: int, text: str) -> None:
        """Adds a line, or a continuation of the last one."""
        if level == _CONTINUED and self._lines:
            before, start = self._lines[-1]
            self._lines[-1] = (before, start + text)
        else:
            self._lines.append((level, text))

    def errors(self) -> list[str]:
        """What was logged as an error, without the names of llama.cpp's functions."""
        return [re.sub(r"^\w+: (error: |error )?", "", text).strip() for level, text in self._lines if level == _ERROR]

    def buffer_bytes(self) -> Mapping[str, int]:
        """The memory that llama.cpp said it reserved, by device in its own terms (`CPU`, `CUDA0` …)."""
        found: dict[str, float] = defaultdict(float)
        projector_device = "CPU"
        for _, text in self._lines:
            for device, mebibytes in _BUFFER.findall(text):
                found[device] += float(mebibytes) * 2**20
            for device in _PROJECTOR_DEVICE.findall(text):
                projector_device = device
            for mebibytes in _PROJECTOR_WEIGHTS.findall(text):
                found[projector_device] += float(mebibytes) * 2**20
        return {device: int(size) for device, size in found.items()}


def load_error(message: str, errors: Sequence[str], reason: str = "MODEL_LOAD_FAILED") -> ModelLoadError:
    """Why a load failed, with the first of the errors that were logged; `reason` unless they tell of too little memory."""
    told = [" ".join(error.split()) for error in errors if error]
    if any("alloc" in error or "out of memory" in error for error in told):
        reason = "OUT_OF_MEMORY"
    return ModelLoadError(": ".join([message, *told[:1]]), reason)


# llama.cpp has one log per process, so what listens to it is one per process too.
_listeners: list[LogLines] = []


@native.llama_log_callback  # type: ignore[untyped-decorator]  # llama_cpp has no type information
def _receive(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode(errors="replace")
    for listener in _listeners:
        listener.add(level, line)
    if _logger.isEnabledFor(logging.DEBUG) and line.strip(" .\n"):
        _logger.debug("%s", line.rstrip())


@contextmanager
def recorded() -> Iterator[LogLines]:
    """Takes over llama.cpp's log for good and records it during the block."""
    native.llama_log_set(_receive, None)
    mtmd_cpp.mtmd_helper_log_set(_receive, None)
    lines = LogLines()
    _listeners.append(lines)
    try:
        yield lines
    finally:
        _listeners.remove(lines)
