"""An audio service in this process, its engines in workers as ever, and a client that speaks to it over gRPC."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests import `talking` and `hearing`
os.environ.setdefault("OMP_NUM_THREADS", "1")

from talking import Talking, talking


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models root with one espeak model in it."""
    root = tmp_path_factory.mktemp("models")
    (root / "voice").mkdir()
    (root / "voice" / "model.toml").write_text(
        'name = "voice"\nmodality = "audio"\nengine = "espeak"\ncapabilities = ["speech"]\n[limits]\nslots = 2\n'
    )
    return root


@pytest.fixture
async def service(models: Path) -> AsyncIterator[Talking]:
    async with talking(models) as started:
        yield started
