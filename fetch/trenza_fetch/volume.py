"""The models root: finished models, drafts of unfinished ones, and what was replaced.

Everything that is not a finished model lies in `.trenza` below the root, where no service looks, and on the same volume, so that a
model appears by a single rename.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trenza_fetch.config import ModelConfig
from trenza_fetch.failures import ExitCode, FetchFailure

log = logging.getLogger(__name__)

WORK = ".trenza"
RECORD = ".trenza-fetch.json"
"""In a finished model's folder: what it was made from."""
SPARE_BYTES = 2**20
_MAX_RECORD_BYTES = 2**24


@dataclass(frozen=True)
class FileRecord:
    """A whole file of a draft or model."""

    size_bytes: int
    sha256: str
    version: str = ""


class Volume:
    """A models root that models are fetched into."""

    def __init__(self, root: Path) -> None:
        """Raises FetchFailure where there is no such folder."""
        if not root.is_dir():
            raise FetchFailure(ExitCode.VOLUME, f"there is no folder {root}: is the volume mounted?")
        self.root = root
        self._work = root / WORK

    def is_complete(self, model: ModelConfig) -> bool:
        """Whether the model is in place, made from the same configuration, and no file of it is missing or cut."""
        folder = self.root / model.folder
        record = _read_record(folder)
        if record is None or record.get("fingerprint") != model.fingerprint:
            return False
        files = record.get("files")
        return isinstance(files, dict) and all(
            isinstance(entry, dict) and _size_bytes(folder / name) == entry.get("size_bytes")
            for name, entry in files.items()
        )

    def require_ours(self, model: ModelConfig) -> None:
        """Raises FetchFailure where the model's place is taken by something that was not fetched."""
        folder = self.root / model.folder
        if folder.is_symlink() or (folder.exists() and _read_record(folder) is None):
            raise FetchFailure(
                ExitCode.VOLUME, f"there is a {model.folder!r} in the models root that was not fetched; move it away"
            )

    def lock_folder(self, model: ModelConfig) -> Path:
        """Where the locks of a model lie."""
        return self._work / "locks" / model.folder

    def draft(self, model: ModelConfig, number: int) -> Draft:
        """The draft of a model for the holder of this lock, with what an earlier holder left; other drafts of it go."""
        drafts = self._work / "drafts" / model.folder
        drafts.mkdir(parents=True, exist_ok=True)
        mine = drafts / f"{model.fingerprint[:16]}.{number}"
        earlier = sorted(drafts.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in earlier:
            if path.name.startswith(f"{model.fingerprint[:16]}.") and not mine.exists():
                path.rename(mine)  # whoever still writes to it by name, fails
            elif path != mine:
                shutil.rmtree(path, ignore_errors=True)
        return Draft(mine)

    def require_space(self, wanted_bytes: int) -> None:
        """Raises FetchFailure where so much cannot fit."""
        free_bytes = shutil.disk_usage(self.root).free
        if wanted_bytes + SPARE_BYTES > free_bytes:
            raise FetchFailure(
                ExitCode.VOLUME, f"{_gib(wanted_bytes)} are to be fetched, and the volume has {_gib(free_bytes)} left"
            )

    def publish(self, model: ModelConfig, draft: Draft) -> None:
        """Puts a finished draft in the model's place; what was there is kept for a while, since it may be open elsewhere."""
        record = {
            "fingerprint": model.fingerprint,
            "source": model.source,
            "files": {name: asdict(entry) for name, entry in draft.records.items()},
        }
        (draft.files / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True))
        place = self.root / model.folder
        if place.exists():
            replaced = self._work / "replaced" / f"{model.folder}.{time.time_ns()}"
            replaced.parent.mkdir(parents=True, exist_ok=True)
            place.rename(replaced)
            with suppress(OSError):
                os.utime(replaced)
        draft.files.rename(place)
        draft.remove()

    def remove_replaced(self, keep_s: float) -> None:
        """Deletes what was replaced longer ago than that."""
        with suppress(FileNotFoundError):
            for path in (self._work / "replaced").iterdir():
                if time.time() - path.stat().st_mtime >= keep_s:
                    log.info("deleting a replaced model", extra={"path": str(path)})
                    shutil.rmtree(path, ignore_errors=True)


class Draft:
    """A model that is being put together; its whole files outlive the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files, self.scratch, self._ledger = folder / "files", folder / "scratch", folder / "ledger.jsonl"
        self.files.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)  # the hub's library never goes on with a killed process's files
        self.records: dict[str, FileRecord] = dict(self._read_ledger())

    def has(self, name: str, size_bytes: int, version: str) -> bool:
        """Whether the file is there, whole and of that version."""
        record = self.records.get(name)
        return record is not None and (record.size_bytes, record.version) == (size_bytes, version)

    def keep(self, name: str, record: FileRecord) -> None:
        """Notes that a file is whole."""
        self.records[name] = record
        with self._ledger.open("a") as ledger:
            ledger.write(json.dumps({"name": name, **asdict(record)}) + "\n")

    def keep_only(self, names: Collection[str]) -> None:
        """Removes what is not wanted any more."""
        for name in set(self.records) - set(names):
            del self.records[name]
            (self.files / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_ledger(self) -> dict[str, FileRecord]:
        records: dict[str, FileRecord] = {}
        with suppress(OSError, ValueError, TypeError, KeyError):  # the last line may be torn
            for line in self._ledger.read_text().splitlines():
                entry = json.loads(line)
                name = entry.pop("name")
                records[name] = FileRecord(**entry)
        return {name: record for name, record in records.items() if _size_bytes(self.files / name) == record.size_bytes}


def _read_record(folder: Path) -> dict[str, object] | None:
    try:
        with (folder / RECORD).open("rb") as file:
            record = json.loads(file.read(_MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _size_bytes(path: Path) -> int:
    """The size of an ordinary file; -1 where there is none."""
    try:
        return path.stat().st_size if path.is_file() and not path.is_symlink() else -1
    except OSError:
        return -1


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
