"""What every source can do: say which files it has, and write one of them."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from trenza_fetch.failures import Stopped, volume_failure

log = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
_PROGRESS_S = 10.0


@dataclass(frozen=True)
class SourceFile:
    """A file that a source has.

    `name` is relative to the address and not to be trusted; `version` changes when the contents do; `sha256` is what the source
    itself says that they are, empty where it does not.
    """

    name: str
    size_bytes: int
    version: str
    sha256: str = ""


class Source(Protocol):
    """Where the files of one model come from."""

    def files(self) -> list[SourceFile]:
        """Everything that there is. Raises FetchFailure; Transient where it is worth another try."""

    def fetch(self, file: SourceFile, sink: Sink) -> None:
        """Writes one file. Raises FetchFailure; Transient where the same call, with the same sink, may go on."""


class Sink:
    """A file that is being written: hashed on the way, and gone on with where it was left."""

    def __init__(self, path: Path, name: str, size_bytes: int, stopping: Callable[[], bool]) -> None:
        """Starts the file anew. Raises OSError."""
        self.path = path
        self._name, self._size_bytes, self._stopping = name, size_bytes, stopping
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._file: BinaryIO = path.open("xb")
        self._digest = hashlib.sha256()
        self.written_bytes = 0
        self._told_s = time.monotonic()

    @property
    def sha256(self) -> str:
        """Of what was written until now, in hex."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Goes on. Raises FetchFailure where the volume is full or the process is to stop."""
        if self._stopping():
            raise Stopped
        with volume_errors():
            self._file.write(chunk)
        self._digest.update(chunk)
        self.written_bytes += len(chunk)
        if time.monotonic() - self._told_s >= _PROGRESS_S:
            self._told_s = time.monotonic()
            log.info("fetching", extra={"file": self._name, "bytes": self.written_bytes, "of_bytes": self._size_bytes})

    def take(self, path: Path) -> None:
        """Replaces what was written by a file that lies on the same volume already; it is read to be hashed."""
        self._digest, self.written_bytes = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                if self._stopping():
                    raise Stopped
                self._digest.update(chunk)
                self.written_bytes += len(chunk)
        self._file.close()
        with volume_errors():
            path.replace(self.path)
            self._file = self.path.open("ab")

    def close(self) -> None:
        """Closes the file when everything has reached the disk."""
        with volume_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Closes and removes the file."""
        with suppress(OSError):  # what cannot be written is to go anyway
            self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def volume_errors() -> Iterator[None]:
    """Makes the volume's errors failures of their own kind."""
    try:
        yield
    except OSError as error:
        failure = volume_failure(error)
        if failure is None:
            raise
        raise failure from error
