"""Fixtures that every tier may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests import `mesh`

from mesh import Mesh, running_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One healthy mesh for all tests that do not break anything."""
    with running_mesh(tmp_path_factory.mktemp("mesh")) as started:
        yield started


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[Mesh]:
    """An empty mesh of the test's own, to start, break and kill as it likes."""
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.close()
