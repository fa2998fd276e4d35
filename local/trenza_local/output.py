"""What a component says: every line into a file of bounded size, and read for its level."""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE_BYTES = 10 * 2**20
OLD_FILES = 1
REMEMBERED_LINES = 20
NEWS = logging.WARNING + 1
"""Level of what the launcher itself says of a component."""
_KNOWN = frozenset({"time", "level", "component", "logger", "event", "exception"})


@dataclass(frozen=True)
class Line:
    """One line, as a person wants to read it."""

    level: int
    text: str


class Output:
    """Keeps a component's lines; the last ones also in memory, to say why it ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
        self._last: deque[Line] = deque(maxlen=REMEMBERED_LINES)

    def add(self, raw: bytes) -> Line:
        """Keeps a line and returns it for showing."""
        text = raw.decode(errors="replace").rstrip()
        self._file.emit(logging.LogRecord("", logging.INFO, "", 0, "%s", (text,), None))
        line = read(text)
        self._last.append(line)
        return line

    def forget(self) -> None:
        """Forgets the last lines: a new life begins."""
        self._last.clear()

    def last_words(self) -> str:
        """The line that most likely says why the process ended; empty when it said nothing."""
        confession = [line.text for line in self._last if line.text.startswith("error: ")]
        if confession:
            return confession[-1].removeprefix("error: ")
        spoken = [line.text for line in self._last if line.text.strip()]
        return spoken[-1].strip() if spoken else ""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read(text: str) -> Line:
    """A component's own JSON line by its level and without its ornaments; anything else is a native library's chatter.

    A process that gives up says why in a line `error: …`; that is told when it has ended.
    """
    if not text.startswith("{"):
        return Line(logging.DEBUG, text)
    try:
        record = json.loads(text)
        level, event = logging.getLevelNamesMapping()[str(record["level"]).upper()], str(record["event"])
    except (ValueError, KeyError, TypeError):
        return Line(logging.DEBUG, text)
    fields = "".join(f" {key}={value}" for key, value in record.items() if key not in _KNOWN)
    exception = str(record.get("exception") or "").strip().splitlines()
    return Line(level, f"{event}{fields}" + (f" ({exception[-1]})" if exception else ""))
