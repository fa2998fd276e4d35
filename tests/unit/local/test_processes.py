"""The launcher with toy processes: order, restarts, clear errors, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
NAMES = ("scheduler", "chat-0", "chat-1", "gateway")
LIMIT_S = 30.0


class Toys:
    """A launcher of toys, and what they have written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def behave(self, name: str, mode: str) -> None:
        (self.folder / f"{name}.behaviour").write_text(mode)

    def start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(HERE), "TOY_FOLDER": str(self.folder)}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "toy_launcher.py")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.process

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[str, str]:
        """Sends a signal, waits for the end, returns what was printed."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.communicate(timeout=LIMIT_S)

    def story(self) -> list[str]:
        path = self.folder / "story"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def gone(self, name: str) -> bool:
        """Whether the toy has ended; a zombie has, whoever ought to collect it."""
        try:
            return psutil.Process(self.pid(name)).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def await_all(self) -> None:
        until(lambda: sum(word.startswith("start ") for word in self.story()) >= len(NAMES))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Toys]:
    toys = Toys(tmp_path)
    yield toys
    if toys.process is not None and toys.process.poll() is None:
        toys.process.kill()
        toys.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_starts_in_order_and_stops_in_the_opposite_order(toys: Toys, number: signal.Signals) -> None:
    process = toys.start()
    toys.await_all()
    _, err = toys.end(number)
    assert process.returncode == 0, err
    story = toys.story()
    assert [story[0], sorted(story[1:3]), story[3]] == [
        "start scheduler",
        ["start chat-0", "start chat-1"],
        "start gateway",
    ]
    assert [story[4], sorted(story[5:7]), story[7]] == [
        "stop gateway",
        ["stop chat-0", "stop chat-1"],
        "stop scheduler",
    ]
    assert len(story) == 8
    assert list((toys.folder / "state").iterdir()) == [toys.folder / "state" / "logs"]


def test_a_terminals_interrupt_reaches_the_launcher_only(toys: Toys) -> None:
    process = toys.start()
    toys.await_all()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert not any(word.startswith("interrupt") for word in toys.story())
    assert toys.story()[-1] == "stop scheduler"


def test_a_process_that_dies_is_started_again(toys: Toys) -> None:
    toys.behave("chat-0", "mortal")
    toys.start()
    toys.await_all()
    until(lambda: toys.story().count("start chat-0") == 2)
    first = toys.pid("scheduler")
    os.kill(first, signal.SIGKILL)
    until(lambda: toys.story().count("start scheduler") == 2)
    until(lambda: toys.pid("scheduler") != first)
    _, err = toys.end()
    assert "chat-0     ended with exit code 3; starting it again in 0.5 s" in err
    assert "scheduler  ended with SIGKILL; starting it again in 0.5 s" in err
    assert toys.story().count("stop chat-0") == 1
    assert toys.story()[-1] == "stop scheduler"
    assert all(toys.gone(name) for name in NAMES)


def test_a_misconfigured_process_ends_everything_with_its_own_words(toys: Toys) -> None:
    toys.behave("chat-1", "misconfigured")
    process = toys.start()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert err.splitlines() == ["error: chat-1: the toy is set up wrongly"]
    assert "start gateway" not in toys.story()
    assert toys.story()[-1] == "stop scheduler"


def test_a_process_that_never_runs_is_tried_a_few_times_and_then_said_why(toys: Toys) -> None:
    toys.behave("chat-0", "broken")
    process = toys.start()
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert toys.story().count("break chat-0") == 3
    last = err.splitlines()[-1]
    assert last.startswith("error: chat-0: KeyError: 'a part is missing' (see ")
    assert "Traceback" in (toys.folder / "state" / "logs" / "chat-0.log").read_text()
    assert last.endswith("chat-0.log)")


def test_a_process_that_ran_once_gets_every_other_chance(toys: Toys) -> None:
    process = toys.start()
    toys.await_all()
    until((toys.folder / "chat-0.ready").exists)
    time.sleep(0.5)  # the launcher has to have seen it too
    toys.behave("chat-0", "misconfigured")
    os.kill(toys.pid("chat-0"), signal.SIGKILL)
    until((toys.folder / "chat-0.complained").exists)
    assert process.poll() is None
    (toys.folder / "chat-0.behaviour").unlink()
    until(lambda: toys.story().count("start chat-0") == 2)
    _, err = toys.end()
    assert "ended with exit code 2: the toy is set up wrongly; starting it again in 1 s" in err


def test_a_stubborn_process_is_killed_and_the_others_still_stop_in_order(toys: Toys) -> None:
    toys.behave("gateway", "stubborn")
    process = toys.start()
    toys.await_all()
    _, err = toys.end()
    assert process.returncode == 0
    assert "gateway    did not stop within 3 s and is killed" in err
    assert toys.gone("gateway")
    assert toys.story()[-1] == "stop scheduler"


def test_a_second_interrupt_ends_everything_at_once(toys: Toys) -> None:
    toys.behave("gateway", "stubborn")
    process = toys.start()
    toys.await_all()
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    toys.end(signal.SIGINT)
    assert time.monotonic() - begun < 2.5
    assert all(toys.gone(name) for name in NAMES)


def test_interrupted_while_starting_it_stops_what_had_started(toys: Toys) -> None:
    toys.behave("chat-0", "slow")
    process = toys.start()
    until(lambda: "start chat-0" in toys.story() and "start chat-1" in toys.story())
    toys.end(signal.SIGINT)
    assert process.returncode == 0
    assert sorted(toys.story()[-3:-1]) == ["stop chat-0", "stop chat-1"]
    assert toys.story()[-1] == "stop scheduler"
    assert "start gateway" not in toys.story()


def test_a_killed_launcher_leaves_nothing_behind(toys: Toys) -> None:
    process = toys.start()
    toys.await_all()
    process.kill()
    process.communicate()
    until(lambda: all(toys.gone(name) for name in NAMES))


def test_warnings_are_shown_everything_is_kept_and_a_flood_is_survived(toys: Toys) -> None:
    toys.behave("chat-0", "talkative")
    toys.start()
    toys.await_all()
    _, err = toys.end()
    assert "chat-0     warning: after the flood" in err.splitlines()
    assert "a whisper" not in err
    log = (toys.folder / "state" / "logs" / "chat-0.log").read_text()
    assert "a whisper" in log
    assert len(log) < 2**20


def test_a_taken_port_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {**os.environ, "TRENZA_GATEWAY_HTTP_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "trenza_local", "--state", str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    line = f"error: port {port} is taken by another process; choose another with TRENZA_GATEWAY_HTTP_PORT=…"
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", [line])
