"""Lets the tests of this folder import what lies beside them, and gives them a models root, a hub and a bucket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_hub import FakeHub
from fetch_runs import Fetching


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    """A models root and a way of starting the program on it."""
    made = Fetching(tmp_path)
    yield made
    made.close()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub without repositories."""
    with FakeHub() as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A mounted folder with a model `tiny`: a manifest and two files, one of them in a folder."""
    folder = tmp_path / "mounted" / "tiny"
    (folder / "weights").mkdir(parents=True)
    (folder / "model.toml").write_text('name = "tiny"\nmodality = "chat"\n[files]\nmodel = "weights/tiny.gguf"\n')
    (folder / "weights" / "tiny.gguf").write_bytes(b"weights" * 100_000)
    (folder / "README.md").write_text("# Tiny\n")
    return folder
