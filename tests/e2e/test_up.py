"""`trenza up` with the real components: what it prints works, and whatever happens it leaves nothing behind."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mesh import eventually, free_port

START_LIMIT_S = 90.0


class Up:
    """A running `trenza up` and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.printed = folder / "printed"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRENZA_")}
        ports = {
            "TRENZA_GATEWAY_HTTP_PORT": str(free_port()),
            "TRENZA_GATEWAY_GRPC_PORT": str(free_port()),
            "TRENZA_SCHEDULER_GRPC_PORT": str(free_port()),
        }
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trenza_local", "--state", str(folder / "state")],
                env={**inherited, **ports},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        eventually(lambda: "Ctrl-C stops everything" in self.text(), START_LIMIT_S)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def text(self) -> str:
        text = self.printed.read_text(errors="replace")
        assert self.process.poll() is None or "Stopped" in text, text
        return text

    def ask(self) -> httpx.Response:
        """Does what the printed curl line does."""
        (line,) = re.findall(r"^  (curl .*)$", self.text(), re.MULTILINE)
        _, url, *options = shlex.split(line)
        given: dict[str, Any] = dict(zip(options[::2], options[1::2], strict=True))
        name, _, value = given["-H"].partition(": ")
        return httpx.post(url, headers={name: value}, content=given["-d"].encode(), timeout=30)

    def member(self, module: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if module in child.cmdline()]
        return found

    def left_over(self) -> list[psutil.Process]:
        """Processes of the mesh that still run; zombies have ended, whoever ought to collect them."""
        running = [process for process in self.family if process.is_running()]
        return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    if up.process.poll() is None:
        up.process.kill()
        up.process.wait()


def test_what_it_prints_works_and_it_stops_in_order(up: Up) -> None:
    assert "starter-chat (ready)" in up.text()
    answer = up.ask()
    assert answer.status_code == 200, answer.text
    assert "12" in answer.json()["choices"][0]["message"]["content"]
    assert len(up.family) == 4, "scheduler, chat, its worker, gateway"

    before = up.member("trenza_chat").pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: "chat-0     is ready again" in up.text(), START_LIMIT_S)
    assert up.member("trenza_chat").pid != before
    eventually(lambda: up.ask().status_code == 200, START_LIMIT_S)

    up.family = psutil.Process(up.process.pid).children(recursive=True)
    begun = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert time.monotonic() - begun < 15
    assert up.left_over() == []
    assert up.text().rstrip().endswith("Stopped.")


def test_killed_it_takes_everything_along(up: Up) -> None:
    up.process.kill()
    up.process.wait()
    eventually(lambda: not up.left_over(), 10)
