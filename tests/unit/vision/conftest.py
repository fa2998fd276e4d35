"""Makes the fake engine importable in worker processes too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)


@pytest.fixture(autouse=True, scope="session")
def _looker_path() -> None:
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{HERE}:{known}" if known else HERE
