"""Killed, stopped, or two at once: a model is there whole or not at all, and what was fetched is not fetched again."""

from __future__ import annotations

from typing import Any

import pytest
from fake_hub import FakeHub
from fetch_runs import Fetching, Run, await_true
from trenza_fetch.failures import ExitCode

FIRST, SECOND = "a-first.gguf", "b-second.gguf"
MANIFEST = f'name = "tiny"\nmodality = "chat"\n[files]\nmodel = "{FIRST}"\n'
TINY: dict[str, Any] = {"name": "tiny", "modality": "chat", "source": "hub://org/tiny", "manifest": MANIFEST}


@pytest.fixture
def fetching(fetching: Fetching, hub: FakeHub) -> Fetching:
    """Of the two files of the model, the second one stalls in its middle."""
    hub.repositories["org/tiny"] = {FIRST: b"first" * 50_000, SECOND: b"second" * 50_000}
    hub.stalled.add(SECOND)
    fetching.environment = {"HF_ENDPOINT": hub.url}
    return fetching


def start_and_stall(fetching: Fetching, hub: FakeHub) -> Run:
    run = fetching.start(TINY)
    await_true(lambda: SECOND in hub.downloads)
    assert fetching.visible() == {}
    return run


def require_whole(fetching: Fetching, hub: FakeHub) -> None:
    assert sorted(fetching.visible()) == [f"tiny/{FIRST}", f"tiny/{SECOND}", "tiny/model.toml"]
    assert fetching.visible()[f"tiny/{SECOND}"] == b"second" * 50_000
    assert hub.downloads.count(FIRST) == 1, "the file that was whole is not fetched again"
    assert fetching.drafts() == []


def test_killed_in_the_middle_and_started_again(fetching: Fetching, hub: FakeHub) -> None:
    start_and_stall(fetching, hub).kill()
    assert fetching.visible() == {}
    hub.go_on.set()
    assert fetching.run(TINY).process.returncode == ExitCode.DONE
    require_whole(fetching, hub)


def test_stopped_by_a_signal(fetching: Fetching, hub: FakeHub) -> None:
    run = start_and_stall(fetching, hub)
    run.terminate()
    assert run.code() == ExitCode.STOPPED, "though a library waits for the network"
    assert fetching.visible() == {}
    hub.go_on.set()
    again = fetching.run(TINY)
    assert again.process.returncode == ExitCode.DONE
    assert not again.said("taking over from a dead process"), "it let go of the lock"
    require_whole(fetching, hub)


def test_two_at_once(fetching: Fetching, hub: FakeHub) -> None:
    first = start_and_stall(fetching, hub)
    second = fetching.start(TINY)
    hub.go_on.wait(1.5)
    assert second.process.poll() is None
    hub.go_on.set()
    assert first.code() == ExitCode.DONE
    assert second.code() == ExitCode.DONE
    assert second.said("another process has fetched the model") or second.said("a model is in place already")
    assert hub.downloads.count(SECOND) == 1
    require_whole(fetching, hub)


def test_waiting_has_a_limit(fetching: Fetching, hub: FakeHub) -> None:
    start_and_stall(fetching, hub)
    fetching.limits["lock_wait_s"] = 0.2
    run = fetching.run(TINY)
    assert run.process.returncode == ExitCode.LOCKED
    assert "another process fetches it, for more than 0.2 s" in run.why


def test_what_changed_meanwhile_is_fetched_again(fetching: Fetching, hub: FakeHub) -> None:
    start_and_stall(fetching, hub).kill()
    hub.repositories["org/tiny"][FIRST] = b"other" * 50_000
    hub.go_on.set()
    assert fetching.run(TINY).process.returncode == ExitCode.DONE
    assert fetching.visible()[f"tiny/{FIRST}"] == b"other" * 50_000
