"""Whatever happens, in whatever order: no slot twice, no ticket unanswered, nothing left behind, the same from the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from trenza_scheduler.core.actions import Grant, Refuse
from unit.scheduler.storm import Storm, digest

HERE = Path(__file__).parent


@pytest.mark.parametrize("seed", range(24))
def test_the_rules_hold(seed: int) -> None:
    Storm(seed).run(600)


def test_storms_do_reach_what_they_are_to_test() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(6):
        storm = Storm(seed)
        storm.run(600)
        for _, action in storm.trace:
            kinds[type(action).__name__] += 1
            if isinstance(action, Refuse):
                kinds[action.reason.value] += 1
            if isinstance(action, Grant) and action.waited_s > 0:
                kinds["waited"] += 1
    for kind in ("Grant", "waited", "QueueUpdate", "CutGateway", "CutReplica", "QUEUE_FULL", "WAIT_LIMIT_EXCEEDED"):
        assert kinds[kind] >= 3, kinds


def test_the_same_seed_gives_the_same_actions_in_any_process() -> None:
    """Also where sets and hashes are ordered differently."""
    paths = [str(Path(path)) for path in sys.path if path]
    digests = {
        subprocess.run(
            [sys.executable, str(HERE / "storm.py"), "3", "400"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {digest(3, 400)}
