"""Fixtures that every tier may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests import `mesh`

from mesh import STARTER_MODELS, Mesh, running_mesh
from unit.llama.tiny_llama import write_model


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One healthy mesh for all tests that do not break anything."""
    with running_mesh(tmp_path_factory.mktemp("mesh")) as started:
        started.await_settled()
        yield started


@pytest.fixture(scope="session")
def full_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One healthy mesh of every modality, for all tests that do not break anything."""
    made = Mesh(tmp_path_factory.mktemp("full_mesh"))
    try:
        made.start_scheduler()
        for modality in ("chat", "audio", "images", "vision"):
            made.start_replica(modality, f"{modality}-0", wait=False, **{f"TRENZA_{modality.upper()}_THREADS": "2"})
        made.start_gateway(TRENZA_GATEWAY_MEDIA_FOLDER=str(made.folder / "media"))
        made.await_settled()
        yield made
    finally:
        made.close()


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[Mesh]:
    """An empty mesh of the test's own, to start, break and kill as it likes."""
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.close()


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Settings of a chat replica that serves, beside the starter model, one that takes long enough to be interrupted.

    `slow` is a random model of some 16 million parameters: a stream of it lasts for many seconds, and says nothing.
    """
    root = tmp_path_factory.mktemp("models")
    (root / "starter-chat").symlink_to(STARTER_MODELS / "starter-chat")
    (root / "slow").mkdir()
    write_model(root / "slow" / "slow.gguf", width=512, heads=8, layers=6, context_length=4096)
    (root / "slow" / "model.toml").write_text(
        'name = "slow"\nmodality = "chat"\nengine = "llama"\n[files]\nmodel = "slow.gguf"\n[context]\nlength = 4096\n'
    )
    return {"TRENZA_CHAT_MODELS_ROOT": str(root), "TRENZA_CHAT_PRELOAD": "starter-chat,slow"}
