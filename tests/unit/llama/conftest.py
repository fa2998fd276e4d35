"""A tiny random model for all tests of the llama engine, and a way to run requests through it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests import `tiny_llama` and `driver`

from driver import Driver
from tiny_llama import write_model
from trenza_llama.engine import LlamaSpec
from trenza_llama.engines.llama import load


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def start(model_path: Path) -> Iterator[Callable[..., Driver]]:
    """Starts engines with the given settings; they are closed after the test."""
    started: list[Driver] = []

    def start_engine(path: Path = model_path, **settings: Any) -> Driver:
        small = {"slots": 4, "context_length": 256, "batch_tokens": 64, "prefill_tokens": 32, "threads": 1}
        driver = Driver(load(LlamaSpec(str(path), **{**small, **settings}), lambda part: None))
        started.append(driver)
        return driver

    yield start_engine
    for driver in started:
        driver.engine.close()


@pytest.fixture
def engine(start: Callable[..., Driver]) -> Driver:
    return start()
