"""Models from a folder that is mounted here. Links are followed as long as they stay inside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from trenza_fetch.core.names import MAX_FILES
from trenza_fetch.failures import ExitCode, FetchFailure, Transient
from trenza_fetch.sources.address import FolderAddress
from trenza_fetch.sources.source import CHUNK_BYTES, Sink, SourceFile

MAX_DEPTH = 32


class FolderSource:
    """A folder, or a single file."""

    def __init__(self, address: FolderAddress) -> None:
        self._address = Path(address.path)
        try:
            self._root = self._address.resolve(strict=True)
        except FileNotFoundError:
            raise FetchFailure(ExitCode.REFUSED, f"there is no folder {self._address}: is it mounted?") from None
        except (OSError, RuntimeError) as error:
            raise FetchFailure(ExitCode.REFUSED, f"the folder {self._address} cannot be read: {error}") from None
        self._paths: dict[str, Path] = {}

    def files(self) -> list[SourceFile]:
        """Every regular file; sockets, devices and links that lead out of the folder are refused."""
        try:
            if self._root.is_file():
                self._paths = {self._address.name: self._root}
            else:
                self._paths = dict(self._walk(self._root, "", 0))
            return [self._described(name, path) for name, path in self._paths.items()]
        except OSError as error:
            raise _failed(error) from error

    def fetch(self, file: SourceFile, sink: Sink) -> None:
        """Copies one file, from where it was left."""
        try:
            # What was a file when it was listed may be a link by now.
            descriptor = os.open(self._paths[file.name], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as source:
                _require_regular(file.name, os.fstat(descriptor))
                source.seek(sink.written_bytes)
                while chunk := source.read(CHUNK_BYTES):
                    sink.write(chunk)
        except OSError as error:
            raise _failed(error) from error

    def _walk(self, folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path]]:
        if depth > MAX_DEPTH:
            raise FetchFailure(ExitCode.REFUSED, f"the folder {self._address} is deeper than {MAX_DEPTH} folders")
        for count, entry in enumerate(sorted(folder.iterdir())):
            if count > MAX_FILES:
                raise FetchFailure(ExitCode.REFUSED, f"the folder {folder} has more than {MAX_FILES} entries")
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            path = entry.resolve()
            if not path.is_relative_to(self._root):
                raise FetchFailure(ExitCode.REFUSED, f"{name!r} is a link that leads out of {self._address}")
            if path.is_dir():
                yield from self._walk(path, f"{name}/", depth + 1)
            else:
                yield name, path

    @staticmethod
    def _described(name: str, path: Path) -> SourceFile:
        status = path.stat()
        _require_regular(name, status)
        return SourceFile(name, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


def _require_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FetchFailure(ExitCode.REFUSED, f"{name!r} is no ordinary file")


def _failed(error: OSError) -> FetchFailure:
    if isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)):
        return FetchFailure(ExitCode.REFUSED, f"the folder cannot be read: {error.strerror}: {error.filename}")
    return Transient(f"the folder cannot be read: {error.strerror or error}")
