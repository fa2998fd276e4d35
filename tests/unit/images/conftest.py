"""Tiny pipelines on disk and loaded, once for all tests of the images service."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from trenza_images.engine import ImagesSpec, ModelDefaults
from trenza_images.engines.diffusers import DiffusersEngine, load


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the worker processes


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pipelines of several kinds, by name, some hundred kilobytes each."""
    import tiny_pipelines

    root = tmp_path_factory.mktemp("pipelines")
    return {
        "sdxl": tiny_pipelines.write_sdxl(root / "sdxl"),
        "turbo": tiny_pipelines.write_sdxl(root / "turbo", turbo=True),
        "sd1": tiny_pipelines.write_sd1(root / "sd1"),
        "flux": tiny_pipelines.write_flux(root / "flux"),
        "fill": tiny_pipelines.write_sd1(root / "fill", channels=9),
    }


@pytest.fixture(scope="session")
def new_engine(folders: dict[str, Path]) -> Callable[..., DiffusersEngine]:
    """Loads an engine: the pipeline's name, then what is particular in its spec or its defaults."""

    def make(name: str, slots: int = 8, defaults: ModelDefaults | None = None, **spec: Any) -> DiffusersEngine:
        wanted = ImagesSpec(
            source=str(folders[name]), slots=slots, threads=1, defaults=defaults or ModelDefaults(steps=3), **spec
        )
        return load(wanted, lambda _: None)

    return make


@pytest.fixture(scope="session")
def _loaded() -> dict[str, DiffusersEngine]:
    return {}


@pytest.fixture
def engine(
    new_engine: Callable[..., DiffusersEngine], _loaded: dict[str, DiffusersEngine]
) -> Callable[[str], DiffusersEngine]:
    """An engine that tests share, with nothing left in it by the last one."""

    def get(name: str) -> DiffusersEngine:
        if name not in _loaded:
            _loaded[name] = new_engine(name)
        assert not _loaded[name].busy
        return _loaded[name]

    return get
