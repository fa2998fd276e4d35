"""One process at a time per model, on a volume that several pods share, NFS included.

A lock is a numbered file; who holds the highest number holds the lock. It is taken by creating the next number, which only one can
do, when the highest is free or its holder shows no sign of life. Nobody ever takes a file away from somebody else, and a
holder who slept so long that it was given up for dead sees the higher number and stops. The holder rewrites its file every few
seconds; whoever waits compares what it reads with what it read before, so that clocks need not agree.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from trenza_fetch.failures import ExitCode, FetchFailure, Stopped

log = logging.getLogger(__name__)

_FREE = "free"
_NUMBER = re.compile(r"(\d{1,12})\.lock")
_POLL_S = 0.5
_BEATS = 6
"""Signs of life in the time after which a holder counts as dead."""
_TOLD_S = 30.0


class Lock:
    """A lock on a folder, made by `acquire`; leaving it as a context frees it."""

    def __init__(self, folder: Path, number: int, owner: str, beat_s: float) -> None:
        self.number = number
        self._folder, self._owner, self._beat_s = folder, owner, beat_s
        self._path = _path(folder, number)
        self._ended = Event()
        self._lost = False
        self._thread = Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raises FetchFailure where somebody else has taken the lock over."""
        self._lost = self._lost or _highest(self._folder) != self.number
        if self._lost:
            raise FetchFailure(ExitCode.LOCKED, "another process took over, because this one seemed dead")

    def release(self) -> None:
        """Lets the next one in. The file stays: numbers must not be given out twice."""
        self._ended.set()
        self._thread.join(timeout=self._beat_s + 1)
        with suppress(OSError):  # gone, or the volume is: it counts as dead after a while
            descriptor = os.open(self._path, os.O_WRONLY | os.O_TRUNC)
            with os.fdopen(descriptor, "w") as file:
                file.write(_FREE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(self._beat_s):
            beat += 1
            try:
                self._lost = self._lost or _highest(self._folder) != self.number
                if self._lost:
                    return
                _write(self._path, f"{self._owner} {beat}", os.O_TRUNC)
            except OSError as error:
                log.warning("the lock could not be kept alive", extra={"why": str(error)})


def acquire(folder: Path, wait_s: float, stale_s: float, stopping: Callable[[], bool]) -> Lock:
    """Waits for the lock on a folder, which is made where there is none.

    `stale_s` is how long a holder may show no sign of life. Raises FetchFailure after `wait_s`, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{_here()} {uuid.uuid4().hex}"
    begun_s = told_s = seen_s = time.monotonic()
    seen = (-1, "")
    while True:
        number = _highest(folder)
        content = _read(folder, number)
        now_s = time.monotonic()
        if (number, content) != seen:
            seen, seen_s = (number, content), now_s
        if content == _FREE or _is_dead(content) or now_s - seen_s >= stale_s:
            if content != _FREE:
                log.warning("taking over from a dead process", extra={"holder": content})
            if _create(folder, number + 1, owner):
                return Lock(folder, number + 1, owner, stale_s / _BEATS)
            continue
        if stopping():
            raise Stopped
        if now_s - begun_s >= wait_s:
            raise FetchFailure(ExitCode.LOCKED, f"another process fetches it, for more than {wait_s:g} s: {content}")
        if now_s - told_s >= _TOLD_S:
            told_s = now_s
            log.info("waiting for another process that fetches the same model", extra={"holder": content})
        time.sleep(_POLL_S)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number}.lock"


def _highest(folder: Path) -> int:
    found = (_NUMBER.fullmatch(name) for name in os.listdir(folder))
    return max((int(match[1]) for match in found if match), default=0)


def _read(folder: Path, number: int) -> str:
    """What the holder wrote last; opening the file anew makes NFS ask its server."""
    if number == 0:
        return _FREE
    try:
        return _path(folder, number).read_text(errors="replace").strip()
    except FileNotFoundError:
        return "gone"  # replaced by a higher number in this very moment


def _write(path: Path, content: str, flags: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def _create(folder: Path, number: int, owner: str) -> bool:
    """Takes a number; False where somebody else was faster."""
    try:
        _write(_path(folder, number), owner, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    if _highest(folder) != number:  # it was given out before, and cleaned up
        _path(folder, number).unlink(missing_ok=True)
        return False
    for name in os.listdir(folder):
        match = _NUMBER.fullmatch(name)
        if match and int(match[1]) < number:
            (folder / name).unlink(missing_ok=True)
    return True


def _here() -> str:
    """Where this process runs, so precisely that its id means something, and its id."""
    return f"{socket.gethostname()} {_process_space()} {os.getpid()}"


def _process_space() -> str:
    """Names this boot of this machine and this container's processes; `unknown` where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"


def _is_dead(content: str) -> bool:
    """Whether the holder was a process of this very container that does not run any more."""
    parts = content.split(" ")
    if len(parts) < 4 or parts[1] != _process_space() or parts[1] == "unknown" or not parts[2].isdecimal():
        return False
    if int(parts[2]) == os.getpid():
        return False
    try:
        os.kill(int(parts[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
