"""Fills a prefix with the script that fills images, and runs what is in it as a container would: a stranger to the file system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from mesh import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "images" / "install.py"
UID = 10001
INSTALL_LIMIT_S = 1800.0
START_LIMIT_S = 120.0
NO_INDEX = ("Failed to establish a new connection", "Temporary failure in name resolution", "Name or service not known")


@dataclass(frozen=True)
class Prefix:
    """A component as its image holds it."""

    component: str
    path: Path

    @property
    def python(self) -> Path:
        return self.path / "venv" / "bin" / "python"

    @cached_property
    def installed(self) -> frozenset[str]:
        """The distributions of the environment, by their normal names."""
        program = (
            "import importlib.metadata, json; print(json.dumps([d.name for d in importlib.metadata.distributions()]))"
        )
        said = subprocess.run([self.python, "-c", program], env={}, capture_output=True, text=True, check=True).stdout
        return frozenset(name.lower().replace("_", "-").replace(".", "-") for name in json.loads(said))

    @property
    def size_mib(self) -> float:
        """Of all files together, as they lie on a disk."""
        said = subprocess.run(["du", "-sk", self.path], capture_output=True, text=True, check=True).stdout
        return int(said.split()[0]) / 1024

    @cached_property
    def as_stranger(self) -> list[str]:
        """A command's beginning that makes it run as the image's user, who owns nothing and may write nothing.

        Where the interpreter itself lies in somebody's home, a right to read everything is left. Without the right to become
        another user, which only root has, it is empty.
        """
        if not shutil.which("setpriv"):
            return []
        drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"]
        read_only = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
        for command in ([*drop, "--inh-caps=-all"], [*drop, *read_only]):
            # By way of a shell, since the rights of the start still hold for the first program.
            trial = [*command, "sh", "-c", f"exec {self.python} -V"]
            if subprocess.run(trial, capture_output=True, check=False, cwd="/").returncode == 0:
                return command
        return []


def fill(component: str, folder: Path) -> Prefix:
    """Runs the script; wheels of our own packages are made once for all components."""
    prefix = Prefix(component, folder / component)
    wheels = str(folder / "wheels")
    command = [sys.executable, str(SCRIPT), component, "--into", str(prefix.path), "--wheels", wheels, "--cached-llama"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", timeout=INSTALL_LIMIT_S, env=_builder()
    )
    if any(sign in done.stdout + done.stderr for sign in NO_INDEX):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return prefix


def _builder() -> dict[str, str]:
    """The environment of whoever builds: pip may be told where its index is, but nothing of Python's own search path."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def needed_packages(folder: str) -> set[str]:
    """The workspace's distributions that the package of a folder needs, itself among them; looked up apart from the script."""
    projects = {
        path.parent: tomllib.loads(path.read_text())["project"]
        for path in REPOSITORY.glob("**/pyproject.toml")
        if "project" in tomllib.loads(path.read_text()) and ".venv" not in path.parts
    }
    by_name = {project["name"]: project for project in projects.values()}
    found: set[str] = set()
    waiting = [projects[REPOSITORY / folder]["name"]]
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting += [line for line in by_name[name]["dependencies"] if line in by_name and line not in found]
    return found


class Container:
    """A process of a prefix with nothing but that prefix, a folder for temporary files, and the variables it is given."""

    def __init__(
        self, prefix: Prefix, tmp: Path, environment: Mapping[str, str], arguments: Sequence[str] = ()
    ) -> None:
        tmp.mkdir(mode=0o777, exist_ok=True)
        tmp.chmod(0o777)
        self.tmp, self._ready = tmp, tmp / "ready.json"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp),
            "TMPDIR": str(tmp),
            "XDG_CACHE_HOME": str(tmp / ".cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRENZA_LOG_FORMAT": "json",
            "TRENZA_READY_FILE": str(self._ready),
            **environment,
        }
        self._prefix, self._log = prefix, tmp / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix.as_stranger, prefix.path / "bin" / "component", *arguments],
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def ports(self) -> dict[str, int]:
        """Waits until the process says where it listens."""
        eventually(lambda: self._ready.exists() or self.process.poll() is not None, START_LIMIT_S)
        assert self.process.poll() is None, self.log
        return {name: int(port) for name, port in json.loads(self._ready.read_text()).items()}

    def is_healthy(self, **environment: str) -> bool:
        """What HEALTHCHECK says."""
        command = [*self._prefix.as_stranger, str(self._prefix.path / "bin" / "healthy")]
        asked = subprocess.run(command, env={**self.environment, **environment}, capture_output=True, check=False)
        return asked.returncode == 0

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
