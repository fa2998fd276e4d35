"""Fills prefixes as images are filled, once for all tests, and throws them away afterwards."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_trials import Prefix, fill


@pytest.fixture(scope="session")
def prefix_of() -> Iterator[Callable[[str], Prefix]]:
    """What a component's image holds below /opt/trenza, in a folder that another user may read."""
    with tempfile.TemporaryDirectory(prefix="trenza-images-") as text:
        folder = Path(text)
        folder.chmod(0o755)

        @cache
        def made(component: str) -> Prefix:
            return fill(component, folder)

        yield made
        shutil.rmtree(folder, ignore_errors=True)
