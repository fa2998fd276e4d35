"""Brings one model into a models root: whole, as it was asked for, or not at all."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from random import Random
from threading import Event

from trenza_runtime.models.manifest import MANIFEST_NAME, MODALITIES, ManifestError, read_manifest

from trenza_fetch.config import Limits, ModelConfig
from trenza_fetch.core.names import NameRefused, chosen
from trenza_fetch.failures import ExitCode, FetchFailure, Transient
from trenza_fetch.lock import Lock, acquire
from trenza_fetch.retries import Retries
from trenza_fetch.sources.address import BucketAddress, FolderAddress, HubAddress
from trenza_fetch.sources.source import Sink, Source, SourceFile, volume_errors
from trenza_fetch.volume import Draft, FileRecord, Volume

log = logging.getLogger(__name__)


class Fetcher:
    """Fetches models into a volume, one after the other."""

    def __init__(self, volume: Volume, limits: Limits, stopping: Event) -> None:
        self._volume, self._limits, self._stopping = volume, limits, stopping
        self._retries = Retries(limits.attempts, limits.retry_wait_s, stopping, Random())
        self._lock: Lock | None = None

    def fetch(self, model: ModelConfig) -> None:
        """Makes sure that the model is in place. Raises FetchFailure, after which there is no trace of it for a service."""
        if self._volume.is_complete(model):
            log.info("a model is in place already", extra={"model": model.name})
            return
        self._volume.require_ours(model)
        with volume_errors():
            lock = acquire(
                self._volume.lock_folder(model),
                self._limits.lock_wait_s,
                self._limits.lock_stale_s,
                self._stopping.is_set,
            )
        with lock:
            self._lock = lock
            try:
                self._fetch_locked(model, lock)
            finally:
                self._lock = None

    def abandon(self) -> None:
        """Frees the lock that is held, from another thread, because the process ends now."""
        if lock := self._lock:
            lock.release()

    def _fetch_locked(self, model: ModelConfig, lock: Lock) -> None:
        if self._volume.is_complete(model):
            log.info("another process has fetched the model", extra={"model": model.name})
            return
        begun_s = time.monotonic()
        log.info("fetching a model", extra={"model": model.name, "source": model.source})
        with volume_errors():
            self._volume.remove_replaced(self._limits.keep_replaced_s)
            draft = self._volume.draft(model, lock.number)
            source = _open(model, draft.scratch)
            wanted = self._wanted(model, source)
            draft.keep_only({file.name for file, _ in wanted})
            missing = [
                (file, sha256) for file, sha256 in wanted if not draft.has(file.name, file.size_bytes, file.version)
            ]
            self._volume.require_space(sum(file.size_bytes for file, _ in missing))
            for file, sha256 in missing:
                lock.require()
                self._fetch_file(source, file, sha256, draft)
            _add_manifest(model, draft)
            lock.require()
            self._volume.publish(model, draft)
        log.info(
            "a model is in place",
            extra={
                "model": model.name,
                "files": len(wanted),
                "bytes": sum(file.size_bytes for file, _ in wanted),
                "seconds": round(time.monotonic() - begun_s, 1),
            },
        )

    def _wanted(self, model: ModelConfig, source: Source) -> list[tuple[SourceFile, str]]:
        """The files that make up the model, as the source describes them, and the SHA-256 that each is to have, or nothing."""
        offered = {file.name: file for file in self._retries.run(model.source, source.files)}
        try:
            return [(offered[name], sha256) for name, sha256 in chosen(offered, model.files, model.sha256).items()]
        except NameRefused as refused:
            raise FetchFailure(ExitCode.REFUSED, str(refused)) from None

    def _fetch_file(self, source: Source, file: SourceFile, sha256: str, draft: Draft) -> None:
        sink = Sink(draft.files / file.name, file.name, file.size_bytes, self._stopping.is_set)
        try:
            self._retries.run(file.name, lambda: _fetch_whole(source, file, sink), lambda: sink.written_bytes)
            for who, expected in (("the configuration", sha256), ("the source", file.sha256)):
                if expected and expected != sink.sha256:
                    draft.remove()
                    raise FetchFailure(
                        ExitCode.CHECKSUM,
                        f"{file.name!r} has the SHA-256 {sink.sha256}, and {who} says {expected}",
                    )
            sink.close()
        except BaseException:
            sink.discard()
            raise
        draft.keep(file.name, FileRecord(file.size_bytes, sink.sha256, file.version))
        log.info("fetched", extra={"file": file.name, "bytes": file.size_bytes, "sha256": sink.sha256})


def _fetch_whole(source: Source, file: SourceFile, sink: Sink) -> None:
    source.fetch(file, sink)
    if sink.written_bytes < file.size_bytes:
        raise Transient(f"{file.name!r} broke off after {sink.written_bytes} of {file.size_bytes} bytes")
    if sink.written_bytes > file.size_bytes:
        raise FetchFailure(ExitCode.CHECKSUM, f"{file.name!r} is larger than the source said")


def _open(model: ModelConfig, scratch: Path) -> Source:
    """The model's source; only the library that it needs is imported."""
    match model.address:
        case FolderAddress() as address:
            from trenza_fetch.sources.folder import FolderSource

            return FolderSource(address)
        case BucketAddress() as address:
            from trenza_fetch.sources.s3 import BucketSource

            return BucketSource(address)
        case HubAddress() as address:
            from trenza_fetch.sources.hub import HubSource

            return HubSource(address, scratch)


def _add_manifest(model: ModelConfig, draft: Draft) -> None:
    """Writes the configuration's manifest over the source's, where there is one, and reads the result as a service will."""
    path = draft.files / MANIFEST_NAME
    if model.manifest is not None:
        content = model.manifest.encode()
        path.write_bytes(content)
        draft.records[MANIFEST_NAME] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
    if not path.is_file():
        raise FetchFailure(
            ExitCode.MODEL,
            f"the source has no {MANIFEST_NAME} among the model's files, and the configuration has no manifest",
        )
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise FetchFailure(ExitCode.MODEL, f"{MANIFEST_NAME}: {error}") from None
    if (manifest.name, manifest.modality) != (model.name, MODALITIES[model.modality]):
        raise FetchFailure(
            ExitCode.MODEL,
            f"{MANIFEST_NAME} says that the model is called {manifest.name!r}, or that it is of another modality than "
            f"{model.modality}, and the configuration says {model.name!r}",
        )
