"""The models of a models root, found by looking: one folder per model, picked up and dropped without a restart."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trenza.common.v1 import common_pb2

from trenza_runtime.models.manifest import (
    MANIFEST_NAME,
    MODALITIES,
    ManifestError,
    ModelManifest,
    read_legacy_manifest,
    read_manifest,
    read_modality,
)

log = logging.getLogger(__name__)

_LEGACY_FOLDERS = frozenset(name.capitalize() for name in MODALITIES)
MAX_MODELS = 1000
"""Models of one root at most; more folders than that are a mistaken root."""


@dataclass(frozen=True)
class Catalogue:
    """What one look at a models root found: models by name, and by path what is wrong with the folders left out."""

    models: Mapping[str, ModelManifest] = field(default_factory=dict)
    problems: Mapping[Path, str] = field(default_factory=dict)


class ModelRegistry:
    """Finds the models of one modality under a root.

    Manifests are `<root>/<folder>/model.toml`, `<root>/<folder>/<folder>/model.toml` and the original system's
    `<root>/{Chat,Audio,Vision,Images}/<name>/<name>.ini`. Of two folders with the same model, the first by path counts.
    A manifest that was good at the last scan and is not now, is probably just being written: it counts once more.
    """

    def __init__(self, root: Path, modality: common_pb2.Modality.ValueType) -> None:
        self._root = root
        self._modality = modality
        self._catalogue = Catalogue()
        self._read_before: dict[Path, ModelManifest] = {}

    @property
    def modality(self) -> common_pb2.Modality.ValueType:
        """The modality of the models that it finds."""
        return self._modality

    @property
    def catalogue(self) -> Catalogue:
        """What the last scan found."""
        return self._catalogue

    def scan(self) -> Catalogue:
        """Looks again. Blocks for some milliseconds, so call it in a thread; new problems are logged, none is raised."""
        found: dict[str, ModelManifest] = {}
        problems: dict[Path, str] = {}
        for path, manifest in self._manifests(problems):
            first = found.setdefault(manifest.name, manifest)
            if first is not manifest:
                problems[path] = f"the model {manifest.name} is in {first.folder} already"
        for path, problem in problems.items():
            if self._catalogue.problems.get(path) != problem:
                log.warning("a model cannot be used", extra={"path": str(path), "problem": problem})
        self._catalogue = Catalogue(found, problems)
        return self._catalogue

    def _manifests(self, problems: dict[Path, str]) -> Iterator[tuple[Path, ModelManifest]]:
        paths = sorted(self._paths(problems))
        if len(paths) > MAX_MODELS:
            problems[self._root] = f"of {len(paths)} models the first {MAX_MODELS} are taken, the rest is left out"
        before, self._read_before = self._read_before, {}
        for path in paths[:MAX_MODELS]:
            try:
                manifest = self._read(path)
                if manifest is not None:
                    self._read_before[path] = manifest
            except ManifestError as error:
                problems[path] = str(error)
                manifest = before.get(path)
            if manifest is not None:
                yield path, manifest

    def _paths(self, problems: dict[Path, str]) -> Iterator[Path]:
        """The manifests of the root, whatever their modality."""
        for folder in _folders(self._root, problems):
            if (folder / MANIFEST_NAME).is_file():
                yield folder / MANIFEST_NAME
                continue
            for inner in _folders(folder, problems):
                legacy = inner / f"{inner.name}.ini"
                if (inner / MANIFEST_NAME).is_file():
                    yield inner / MANIFEST_NAME
                elif folder.name in _LEGACY_FOLDERS and legacy.is_file():
                    yield legacy

    def _read(self, path: Path) -> ModelManifest | None:
        """The manifest, None where it belongs to another modality. Raises ManifestError."""
        if path.name != MANIFEST_NAME:
            modality = path.parent.parent.name.lower()
            return read_legacy_manifest(path, modality) if MODALITIES[modality] == self._modality else None
        if read_modality(path) not in (None, self._modality):
            return None
        return read_manifest(path)


def _folders(parent: Path, problems: dict[Path, str]) -> list[Path]:
    try:
        return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        problems[parent] = f"the folder cannot be read: {error.strerror}"
        return []
