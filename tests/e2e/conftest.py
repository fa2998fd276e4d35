"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from e2e.load import client_of
from mesh import Mesh


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with client_of(mesh) as client:
        yield client
