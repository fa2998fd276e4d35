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

import httpx
import psutil
import pytest
from mesh import eventually, free_port

START_LIMIT_S = 90.0


class Up:
    """A running `trenza up` and what it has printed."""

    def __init__(self, folder: Path, modalities: str) -> None:
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
                env={**inherited, **ports, "TRENZA_MODALITIES": modalities},
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

    def commands(self) -> list[str]:
        """The printed curl lines."""
        return re.findall(r"^  (curl .*)$", self.text(), re.MULTILINE)

    def ask(self) -> httpx.Response:
        """Does what the printed line for chat does."""
        (line,) = [line for line in self.commands() if "/chat/" in line]
        return does(line, Path())

    def member(self, module: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if module in child.cmdline()]
        return found

    def left_over(self) -> list[psutil.Process]:
        """Processes of the mesh that still run; zombies have ended, whoever ought to collect them."""
        running = [process for process in self.family if process.is_running()]
        return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]


def does(line: str, folder: Path) -> httpx.Response:
    """Does what a curl line does; files are in `folder`."""
    _, url, *options = shlex.split(line)
    given = list(zip(options[::2], options[1::2], strict=True))
    said = {option: value for option, value in given if option != "-F"}
    fields = [value.partition("=") for option, value in given if option == "-F"]
    if fields:
        files = {name: (folder / value[1:]).read_bytes() for name, _, value in fields if value.startswith("@")}
        data = {name: value for name, _, value in fields if not value.startswith("@")}
        return httpx.post(url, data=data, files=files, timeout=60)
    name, _, value = said["-H"].partition(": ")
    answer = httpx.post(url, headers={name: value}, content=said["-d"].encode(), timeout=60)
    if "-o" in said:
        (folder / said["-o"]).write_bytes(answer.content)
    return answer


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    yield from started(tmp_path, "chat")


@pytest.fixture
def all_up(tmp_path: Path) -> Iterator[Up]:
    yield from started(tmp_path, "chat,audio,images,vision")


def started(folder: Path, modalities: str) -> Iterator[Up]:
    up = Up(folder, modalities)
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


def test_every_modality_answers_as_printed(all_up: Up, tmp_path: Path) -> None:
    answers = [does(line, tmp_path) for line in all_up.commands()]
    assert [answer.status_code for answer in answers] == [200] * 5, [answer.text[:300] for answer in answers]
    chat, speech, transcript, picture, sight = answers
    assert "12" in chat.json()["choices"][0]["message"]["content"]
    assert speech.headers["content-type"] == "audio/mpeg"
    assert "three blue squares" in transcript.json()["text"].lower()
    shown = httpx.get(picture.json()["data"][0]["url"])
    assert shown.headers["content-type"] == "image/png"
    assert shown.content.startswith(b"\x89PNG")
    said = sight.json()["choices"][0]["message"]["content"].lower()
    assert "red" in said
    assert "circle" in said


def test_killed_it_takes_everything_along(up: Up) -> None:
    up.process.kill()
    up.process.wait()
    eventually(lambda: not up.left_over(), 10)
