"""What a worker's native libraries print, turned into bounded log lines of the service."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

_LINE_BYTES = 1000
"""What is longer is cut."""
_LINES_PER_S = 100
"""What comes faster is counted and left out."""
_TAIL_LINES = 10
"""How many of the last lines are kept for the report of a crash."""


class NativeOutput:
    """Takes a worker's output in pieces and logs it line by line."""

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._partial = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._window_s = -1
        self._in_window = 0
        self._left_out = 0

    @property
    def tail(self) -> str:
        """The last lines."""
        return "\n".join(self._tail)

    def feed(self, piece: bytes) -> None:
        """Logs the lines that this piece completes."""
        *lines, rest = (self._partial + piece).split(b"\n")
        for line in lines:
            self._line(line)
        # A line without an end is kept only as far as it would be logged.
        self._partial = rest[: _LINE_BYTES + 1]

    def end(self) -> None:
        """Logs what is left."""
        self._line(self._partial)
        self._partial = b""
        self._tell_left_out()

    def _line(self, line: bytes) -> None:
        text = line[:_LINE_BYTES].decode(errors="replace").rstrip()
        if not text:
            return
        self._tail.append(text)
        if int(self._clock()) != self._window_s:
            self._tell_left_out()
            self._window_s, self._in_window = int(self._clock()), 0
        self._in_window += 1
        if self._in_window > _LINES_PER_S:
            self._left_out += 1
        else:
            log.info("engine: %s", text, extra={"model": self._model})

    def _tell_left_out(self) -> None:
        if self._left_out:
            log.warning("engine output left out", extra={"model": self._model, "lines": self._left_out})
        self._left_out = 0
