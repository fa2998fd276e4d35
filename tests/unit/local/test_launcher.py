"""The launcher with toy processes: order, restarts, clear errors, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from trenza_local.components import ConfigurationError, components
from trenza_local.core.restarts import LONGEST_DELAY_S, STABLE_S, History, is_hopeless

TOY = '''
"""A process that says when it starts and stops, and does what the file `behaviour` says."""
import json, os, pathlib, signal, sys, time
name, folder = sys.argv[0], pathlib.Path(os.environ["TOY_FOLDER"])
who = os.environ["TOY_NAME"]
def say(word):
    with open(folder / "story", "a") as story:
        story.write(f"{word} {who}\\n")
behaviour = folder / f"{who}.behaviour"
mode = behaviour.read_text() if behaviour.exists() else ""
if mode == "misconfigured":
    print("error: the toy is set up wrongly", file=sys.stderr)
    sys.exit(2)
say("start")
def stop(*_):
    say("stop")
    sys.exit(0)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, stop)
(folder / f"{who}.pid").write_text(str(os.getpid()))
ready = pathlib.Path(os.environ["TRENZA_READY_FILE"])
ready.with_suffix(".part").write_text(json.dumps({"http_port": 1, "grpc_port": 2}))
ready.with_suffix(".part").rename(ready)
if mode == "mortal":
    behaviour.unlink()
    sys.exit(3)
while True:
    time.sleep(0.05)
'''
PROGRAM = '''
"""A launcher of three toys."""
import asyncio, os, sys
from pathlib import Path
from trenza_local import command
from trenza_local.child import Hopeless
from trenza_local.components import Component
command.STOP_GRACE_S = 2.0
mesh = [Component(n, "toy", {"TOY_NAME": n}) for n in ("scheduler", "chat-0", "gateway")]
try:
    sys.exit(asyncio.run(command.Launcher(mesh, Path(os.environ["TOY_FOLDER"]) / "state", False).run()))
except Hopeless as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
'''


class Toys:
    """A running launcher of toys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "toy.py").write_text(TOY)
        self.process: subprocess.Popen[str] | None = None

    def behave(self, name: str, mode: str) -> None:
        (self.folder / f"{name}.behaviour").write_text(mode)

    def start(self) -> subprocess.Popen[str]:
        known = os.environ.get("PYTHONPATH", "")
        environment = {**os.environ, "PYTHONPATH": f"{self.folder}:{known}", "TOY_FOLDER": str(self.folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def story(self) -> list[str]:
        path = self.folder / "story"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def wait_for(self, story: list[str]) -> None:
        end = time.monotonic() + 15
        while self.story() != story:
            assert time.monotonic() < end, self.story()
            time.sleep(0.05)


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Toys]:
    toys = Toys(tmp_path)
    yield toys
    if toys.process is not None and toys.process.poll() is None:
        toys.process.kill()
        toys.process.wait()


STARTED = ["start scheduler", "start chat-0", "start gateway"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_starts_in_order_and_stops_in_reverse(toys: Toys, number: signal.Signals) -> None:
    process = toys.start()
    toys.wait_for(STARTED)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert toys.story() == [*STARTED, "stop gateway", "stop chat-0", "stop scheduler"]
    assert "curl" in out or "stopping" in out


def test_a_process_that_dies_is_started_again(toys: Toys) -> None:
    toys.behave("chat-0", "mortal")
    toys.start()
    end = time.monotonic() + 15
    while toys.story().count("start chat-0") < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(toys.pid("scheduler"), signal.SIGKILL)
    while toys.story().count("start scheduler") < 2:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_misconfigured_process_stops_everything_with_its_own_words(toys: Toys) -> None:
    toys.behave("chat-0", "misconfigured")
    process = toys.start()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error: chat-0: the toy is set up wrongly" in err
    assert "Traceback" not in err
    assert toys.story() == ["start scheduler", "stop scheduler"]


def test_a_stubborn_process_is_killed(toys: Toys) -> None:
    toys.behave("gateway", "stubborn")
    process = toys.start()
    toys.wait_for(STARTED)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert not psutil.pid_exists(toys.pid("gateway"))


def test_a_killed_launcher_leaves_nothing_behind(toys: Toys) -> None:
    process = toys.start()
    toys.wait_for(STARTED)
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    for name in ("scheduler", "chat-0", "gateway"):
        while psutil.pid_exists(toys.pid(name)) and psutil.Process(toys.pid(name)).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end, name
            time.sleep(0.05)


def test_a_taken_port_is_one_line_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {**os.environ, "TRENZA_GATEWAY_HTTP_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "trenza_local"], env=environment, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: port {port} is taken; choose another with TRENZA_GATEWAY_HTTP_PORT=…"
    ]


def test_delays_grow_and_are_forgotten_after_a_healthy_while() -> None:
    history, delays = History(), []
    for _ in range(9):
        history = history.died(lived_s=1)
        delays.append(history.delay_s)
    assert delays[:4] == [0.5, 1, 2, 4]
    assert delays[-1] == LONGEST_DELAY_S
    assert history.died(lived_s=STABLE_S).delay_s == delays[0]


def test_only_a_process_that_never_ran_is_hopeless() -> None:
    assert is_hopeless(2, was_ready=False)
    assert not is_hopeless(2, was_ready=True)
    assert not is_hopeless(1, was_ready=False)


def test_the_mesh_follows_the_environment() -> None:
    mesh = components({"TRENZA_CHAT_REPLICAS": "2", "TRENZA_SCHEDULER_GRPC_PORT": "7001", "TRENZA_CHAT_SLOTS": "8"})
    assert [component.name for component in mesh] == ["scheduler", "chat-0", "chat-1", "gateway"]
    assert mesh[1].environment["TRENZA_CHAT_SCHEDULER_ADDRESS"] == "127.0.0.1:7001"
    assert mesh[3].environment["TRENZA_GATEWAY_SCHEDULER_ADDRESS"] == "127.0.0.1:7001"
    assert [component.name for component in components({"TRENZA_MODALITIES": ""})] == ["scheduler", "gateway"]


@pytest.mark.parametrize(
    "environment",
    [{"TRENZA_CHAT_REPLICAS": "many"}, {"TRENZA_GATEWAY_HTTP_PORT": "99999"}, {"TRENZA_MODALITIES": "chat,smell"}],
)
def test_nonsense_is_refused_by_name(environment: dict[str, str]) -> None:
    (variable,) = environment
    with pytest.raises(ConfigurationError, match=variable):
        components(environment)
