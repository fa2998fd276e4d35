"""Processes that a test run starts and stops, each with a log file of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_LIMIT_S = 15.0
TOLD_CHARACTERS = 3000


class Child:
    """A running program and its log."""

    def __init__(
        self, name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("ab") as log:
            self.popen = subprocess.Popen(
                [str(part) for part in command],
                env=dict(os.environ if environment is None else environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which stops its children in order
            )

    def assert_alive(self) -> None:
        """Fails with the end of the log where the program has ended."""
        code = self.popen.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.log[-TOLD_CHARACTERS:]}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, limit_s: float = STOP_LIMIT_S) -> int:
        """SIGTERM, SIGKILL at the limit, and the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(limit_s)
        if self.popen.poll() is None:
            self.popen.kill()
        return self.popen.wait()
