"""Lets the tests of this folder import the fakes beside them, and gives them a fleet."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gateway_fakes import FakeFleet, fake_fleet


@pytest.fixture
async def fleet() -> AsyncIterator[FakeFleet]:
    """One replica, a scheduler, a gateway."""
    async with fake_fleet() as running:
        yield running
