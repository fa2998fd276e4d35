"""Tiny random Whispers and sounds for the tests of hearing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests import `tiny_whisper`, `sounds` and `hearing_driver`
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tiny_whisper import write_model


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is very sure of what it writes, so that rounding does not change it."""
    return write_model(tmp_path_factory.mktemp("sure"), confidence=10.0)


@pytest.fixture(scope="session")
def unsure_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that doubts all that it writes, so that it tries every temperature."""
    return write_model(tmp_path_factory.mktemp("unsure"), confidence=0.3)
