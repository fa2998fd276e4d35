"""Starts the program on a models root and reads what it says."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LIMIT_S = 60.0
WORK = ".trenza"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def await_true(condition: Callable[[], object]) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class Run:
    """A program that was started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def code(self) -> int:
        """Waits for the end; the exit code. A traceback is a failure of the test."""
        _, said = self.process.communicate(timeout=LIMIT_S)
        self.events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        assert "Traceback" not in said, said
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    @property
    def why(self) -> str:
        """The first failure's sentence."""
        return next(str(event["why"]) for event in self.events if event["level"] == "error")

    def said(self, event: str) -> bool:
        return any(line["event"] == event for line in self.events)


class Fetching:
    """A models root; its program's quick settings are those of tests."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "models"
        self.root.mkdir()
        self.limits: dict[str, float] = {"attempts": 3, "retry_wait_s": 0.05}
        self.environment: dict[str, str] = {}
        self._runs: list[Run] = []

    def start(self, *models: Mapping[str, Any], file_bytes: int = 0) -> Run:
        """Starts the program with these models, written as `[[model]]`; `file_bytes` bounds the size of its files."""
        config = self.folder / f"fetch-{len(self._runs)}.toml"
        config.write_text(_toml(self.limits, models))
        return self.start_with(config, file_bytes)

    def start_with(self, config: Path, file_bytes: int = 0, *more: str) -> Run:
        bound = ["prlimit", f"--fsize={file_bytes}"] if file_bytes else []
        command = [sys.executable, "-m", "trenza_fetch", "--config", str(config), "--into", str(self.root), *more]
        run = Run(
            subprocess.Popen(
                [*bound, *command],
                env={**_quiet(), "TRENZA_LOG_FORMAT": "json", "HF_HOME": str(self.folder / "hf"), **self.environment},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self._runs.append(run)
        return run

    def run(self, *models: Mapping[str, Any]) -> Run:
        """Starts it and waits for its end."""
        run = self.start(*models)
        run.code()
        return run

    def visible(self) -> dict[str, bytes]:
        """What a service sees: every file by its path below the root, without hidden ones."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        }

    def drafts(self) -> list[Path]:
        """The files of unfinished models."""
        return [path for path in (self.root / WORK / "drafts").rglob("*") if path.is_file()]

    def close(self) -> None:
        for run in self._runs:
            if run.process.poll() is None:
                run.kill()


def _toml(limits: Mapping[str, float], models: tuple[Mapping[str, Any], ...]) -> str:
    """JSON's texts, numbers, lists and flat tables are TOML's, but for the sign between key and value."""
    lines = ["[limits]", *(f"{key} = {value}" for key, value in limits.items())]
    for model in models:
        lines.append("[[model]]")
        tables = {key: value for key, value in model.items() if isinstance(value, dict)}
        lines += [f"{key} = {json.dumps(value)}" for key, value in model.items() if key not in tables]
        for key, table in tables.items():
            lines += [f"[model.{key}]", *(f"{json.dumps(name)} = {json.dumps(text)}" for name, text in table.items())]
    return "\n".join(lines) + "\n"


def _quiet() -> dict[str, str]:
    """The environment without anybody's credentials and endpoints."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "AWS_", "TRENZA_"))}
