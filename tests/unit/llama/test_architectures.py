"""Memories that forget: sliding windows and recurrent states must give the same answers, if with less reuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from driver import Driver, ask
from tiny_llama import write_model

PROMPT = "The cat sat on the mat and looked at the other cat that sat on another mat. "

Start = Callable[..., Driver]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("gemma") / "gemma.gguf", architecture="gemma3", layers=6)


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("mamba") / "mamba.gguf", architecture="mamba")


def answers_as_fresh(driver: Driver, text: str) -> int:
    """Whether reuse changes nothing; returns how many tokens were reused."""
    answer = driver.run_one(ask(text))
    cached: int = answer.started.cached_tokens
    assert answer.text == driver.run_one(ask(text, cache_prompt=False)).text
    return cached


@pytest.mark.parametrize("swa_full", [True, False])
def test_a_sliding_window(start: Start, gemma: Path, swa_full: bool) -> None:
    driver = start(gemma, swa_full=swa_full)
    driver.run_one(ask(PROMPT + "One.", max_tokens=4))
    assert answers_as_fresh(driver, PROMPT + "Two.") >= (50 if swa_full else 0)
    assert answers_as_fresh(driver, PROMPT[:20]) >= (10 if swa_full else 0)
    assert answers_as_fresh(driver, PROMPT + "One and all of it again, longer than the window is.") >= 0


def test_a_sliding_window_in_company(start: Start, gemma: Path) -> None:
    requests = [ask(PROMPT + str(number) * number, max_tokens=30) for number in range(6)]
    alone = [start(gemma, slots=1).run_one(replace(request, cache_prompt=False)).text for request in requests]
    for swa_full in (True, False):
        together = start(gemma, slots=3, swa_full=swa_full).run(*requests)
        assert [answer.text for answer in together] == alone


def test_a_recurrent_state(start: Start, mamba: Path) -> None:
    driver = start(mamba)
    first = driver.run_one(ask(PROMPT, max_tokens=4))
    assert first.finished.completion_tokens == 4
    assert answers_as_fresh(driver, PROMPT + "Two.") == 0
    assert answers_as_fresh(driver, PROMPT[:20]) == 0


def test_a_recurrent_state_goes_on_where_it_is(start: Start, mamba: Path) -> None:
    driver = start(mamba, slots=1)
    driver.run_one(ask(PROMPT, max_tokens=0, echo=True))
    assert driver.run_one(ask(PROMPT + "and so on", max_tokens=3)).started.cached_tokens >= 50


def test_recurrent_states_in_company(start: Start, mamba: Path) -> None:
    requests = [ask(PROMPT + str(number) * number, max_tokens=20) for number in range(6)]
    alone = [start(mamba, slots=1).run_one(request).text for request in requests]
    driver = start(mamba, slots=3)
    cancelled = driver.submit(ask(PROMPT, max_tokens=50))
    driver.step()
    driver.engine.cancel(cancelled)
    assert [answer.text for answer in driver.run(*requests)] == alone
