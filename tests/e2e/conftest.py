"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import openai
import pytest
from e2e.load import client_of
from mesh import STARTER_MODELS, Mesh
from unit.llama.tiny_llama import write_model


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with client_of(mesh) as client:
        yield client


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
