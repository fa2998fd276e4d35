"""The scenarios, and that their runner does notice what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.scheduler.scenario import Failed, Scenario, run_file

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    run_file(path)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_same_seed_gives_the_same_actions(path: Path) -> None:
    assert run_file(path, seed=7).trace == run_file(path, seed=7).trace


START = "at 0 gateway g1\nat 0 beat chat-0 models=alpha:loaded:1\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("at 1 ticket r1 model=alpha", "not expected"),
        ("at 1 ticket r1 model=alpha\nexpect grant r1 chat-1", "granted on chat-0"),
        ("at 1 ticket r1 model=alpha\nexpect refusal r1 QUEUE_FULL", "no refusal"),
        (
            "at 1 ticket r1 model=alpha\nexpect grant r1 chat-0\nat 2 ticket r2 model=alpha\nexpect waiting r2 position=1",
            "position 0",
        ),
        ("at 1 juggle r1", "what is juggle"),
        ("expect health chat-0 suspect", "LIVE"),
    ],
)
def test_a_wrong_expectation_fails(text: str, complaint: str) -> None:
    with pytest.raises(Failed, match=complaint):
        Scenario().run(START + text)


def test_there_are_enough_of_them() -> None:
    assert len(SCENARIOS) >= 15
