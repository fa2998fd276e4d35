"""Models from a hub that speaks Hugging Face's API: its own, or the one that HF_ENDPOINT names. HF_TOKEN is sent where set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trenza_fetch.failures import ExitCode, FetchFailure, Transient, volume_failure
from trenza_fetch.sources.address import HubAddress
from trenza_fetch.sources.source import Sink, SourceFile

# Read once, by the library's import.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0")

from huggingface_hub import HfApi, errors, hf_hub_download
from huggingface_hub.hf_api import RepoFile

_TRY_AGAIN_STATUS = frozenset({408, 425, 429})


class HubSource:
    """A repository, at the commit that its revision names when the files are listed."""

    def __init__(self, address: HubAddress, scratch: Path) -> None:
        """`scratch` is a folder on the models root's volume for files that are not whole yet."""
        self._address, self._scratch = address, scratch
        self._api = HfApi(library_name="trenza")
        self._commit = ""
        self._paths: dict[str, str] = {}

    def files(self) -> list[SourceFile]:
        """The files below the address's path, named relative to it."""
        repository = self._address.repository
        try:
            self._commit = (
                self._api.model_info(repository, revision=self._address.revision).sha or self._address.revision
            )
            listed = [
                entry
                for entry in self._api.list_repo_tree(repository, recursive=True, revision=self._commit)
                if isinstance(entry, RepoFile)
            ]
        except Exception as error:
            raise self._failed(error) from error
        found = {name: entry for entry in listed if (name := self._relative(entry.path))}
        if not found:
            raise FetchFailure(ExitCode.REFUSED, f"there is nothing at {self._address.path!r} of {repository}")
        self._paths = {name: entry.path for name, entry in found.items()}
        return [_described(name, entry) for name, entry in found.items()]

    def fetch(self, file: SourceFile, sink: Sink) -> None:
        """Downloads one file; the library itself goes on where a connection breaks."""
        try:
            path = hf_hub_download(
                self._address.repository,
                self._paths[file.name],
                revision=self._commit,
                local_dir=self._scratch,
                library_name="trenza",
            )
        except Exception as error:
            raise self._failed(error) from error
        sink.take(Path(path))

    def _relative(self, path: str) -> str:
        """The name of a file of the repository; empty where it is not below the address's path."""
        wanted = self._address.path
        if not wanted:
            return path
        if path == wanted:
            return path.rpartition("/")[2]
        return path.removeprefix(f"{wanted}/") if path.startswith(f"{wanted}/") else ""

    def _failed(self, error: Exception) -> FetchFailure:
        """What an error of the library means. Raises it where it is none of the hub's or the network's."""
        repository, revision = self._address.repository, self._address.revision
        if isinstance(error, OSError) and (failure := volume_failure(error)):
            return failure
        match error:
            case errors.GatedRepoError():
                why = f"{repository} is gated: accept its terms and set HF_TOKEN"
            case errors.RepositoryNotFoundError():
                why = f"there is no repository {repository}, or HF_TOKEN may not read it"
            case errors.RevisionNotFoundError():
                why = f"{repository} has no revision {revision}"
            case errors.LocalEntryNotFoundError():
                return Transient(f"the hub does not answer: {_first_line(error)}")
            case errors.EntryNotFoundError() | errors.HFValidationError() | errors.OfflineModeIsEnabled():
                why = _first_line(error)
            case _ if _is_final(error):
                why = f"the hub refuses {repository}: {_first_line(error)}"
            case _ if isinstance(error, (OSError, RuntimeError)) or type(error).__module__.startswith("httpx"):
                return Transient(f"the hub does not answer: {_first_line(error)}")
            case _:
                raise error
        return FetchFailure(ExitCode.REFUSED, why)


def _described(name: str, entry: Any) -> SourceFile:
    """Large files are stored by their SHA-256; small ones have an id that changes with them."""
    return SourceFile(name, int(entry.size), str(entry.blob_id), str(entry.lfs.sha256) if entry.lfs else "")


def _is_final(error: Exception) -> bool:
    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0) or 0)
    return 400 <= status < 500 and status not in _TRY_AGAIN_STATUS


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
