"""An audio service in this process, its engines in workers as ever, and a client that speaks to it over gRPC."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))  # tests import `talking` and `hearing`
os.environ.setdefault("OMP_NUM_THREADS", "1")

from talking import Talking, talking
from tiny_bark import write_bark


@pytest.fixture(scope="session")
def bark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Bark."""
    return write_bark(tmp_path_factory.mktemp("bark"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models root with one espeak model in it."""
    root = tmp_path_factory.mktemp("models")
    (root / "voice").mkdir()
    (root / "voice" / "model.toml").write_text(
        'name = "voice"\nmodality = "audio"\nengine = "espeak"\ncapabilities = ["speech"]\n[limits]\nslots = 2\n'
    )
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(models: Path) -> AsyncIterator[Talking]:
    """One for all tests of a module: they leave it as they found it."""
    async with talking(models) as started:
        yield started
