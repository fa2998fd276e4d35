"""One process at a time, whatever happens to the others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fetch_runs import await_true
from trenza_fetch.failures import ExitCode, FetchFailure, Stopped
from trenza_fetch.lock import Lock, acquire


def never() -> bool:
    return False


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    first = acquire(tmp_path, 0, 60, never)
    with pytest.raises(FetchFailure) as failure:
        acquire(tmp_path, 0.1, 60, never)
    assert failure.value.code == ExitCode.LOCKED
    first.require()
    first.release()
    with acquire(tmp_path, 0, 60, never) as second:
        second.require()
        assert second.number > first.number


def test_of_many_at_once_each_gets_it_alone(tmp_path: Path) -> None:
    holding, held, wrong = [0], [0], [0]

    def work() -> None:
        for _ in range(3):
            with acquire(tmp_path, 60, 60, never):
                holding[0] += 1
                wrong[0] += holding[0] != 1
                time.sleep(0.001)
                holding[0] -= 1
                held[0] += 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (held, wrong) == ([15], [0])
    assert len(list(tmp_path.iterdir())) == 1, "old numbers do not pile up"


def test_a_holder_that_shows_signs_of_life_is_waited_for(tmp_path: Path) -> None:
    with acquire(tmp_path, 0, 1, never) as holder:
        with pytest.raises(FetchFailure):
            acquire(tmp_path, 3, 1, never)
        holder.require()


def foreign(folder: Path) -> None:
    """A lock of a process on another machine, which says nothing more."""
    folder.mkdir(exist_ok=True)
    (folder / "7.lock").write_text("elsewhere boot/pid 1 abcdef")


def test_a_holder_elsewhere_without_a_sign_of_life_is_given_up(tmp_path: Path) -> None:
    foreign(tmp_path)
    begun_s = time.monotonic()
    with acquire(tmp_path, 30, 1, never) as lock:
        assert time.monotonic() - begun_s >= 1
        assert lock.number == 8


def test_a_holder_that_was_killed_here_is_given_up_at_once(tmp_path: Path) -> None:
    program = (
        "import pathlib, os, sys, trenza_fetch.lock as l;"
        "l.acquire(pathlib.Path(sys.argv[1]), 0, 60, lambda: False); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    with acquire(tmp_path, 0, 3600, never):
        pass


def test_who_was_given_up_for_dead_notices(tmp_path: Path) -> None:
    sleeper: Lock = acquire(tmp_path, 0, 3600, never)
    (tmp_path / f"{sleeper.number + 1}.lock").write_text("elsewhere boot/pid 1 abcdef")
    with pytest.raises(FetchFailure) as failure:
        sleeper.require()
    assert failure.value.code == ExitCode.LOCKED
    sleeper.release()
    assert (tmp_path / f"{sleeper.number + 1}.lock").read_text().startswith("elsewhere"), "the other's is left alone"


def test_waiting_ends_with_the_process(tmp_path: Path) -> None:
    foreign(tmp_path)
    with pytest.raises(Stopped):
        acquire(tmp_path, 60, 60, lambda: True)


def test_signs_of_life_are_written(tmp_path: Path) -> None:
    with acquire(tmp_path, 0, 1, never) as lock:
        path = tmp_path / f"{lock.number}.lock"
        before = path.read_text()
        await_true(lambda: path.read_text() not in ("", before))
        assert str(os.getpid()) in path.read_text()
