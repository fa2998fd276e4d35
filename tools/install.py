"""Makes `.venv` and installs the workspace into it: `python3 tools/install.py run` or `… dev`.

Does nothing, and asks no network, when everything is there already. Uses the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = ROOT / ".trenza" / "install.log"
# In the order of their dependencies.
PACKAGES = (
    "protos",
    "runtime",
    "services/llama",
    "services/chat",
    "scheduler",
    "gateway",
    "client",
    "local",
)
RECIPES = "models"  # only tests use it here: its questions; training needs more
OLDEST_PYTHON = (3, 11)


def main() -> None:
    """Brings the environment to the level that is asked for."""
    level = sys.argv[1] if len(sys.argv) > 1 else "run"
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(str(part) for part in sys.version_info[:3])
        fail(f"Trenza needs Python 3.11 or newer and this is {found}; name another one with PYTHON=…")
    wanted = fingerprint(level)
    stamp = VENV / f".trenza-{level}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    print(f"Installing into {VENV.name}/ (details in {LOG.relative_to(ROOT)})", flush=True)
    make_environment()
    install_workspace()
    if level == "dev":
        pip("the tools that tests and checks use", "--group", "dev", "-e", RECIPES, "--no-build-isolation")
        (VENV / ".trenza-run").write_text(fingerprint("run"))
    stamp.write_text(wanted)


def fingerprint(level: str) -> str:
    """Changes whenever what has to be installed does, or where."""
    digest = hashlib.sha256(f"{level} {sys.version} {ROOT} {os.environ.get('CMAKE_ARGS', '')}".encode())
    for package in (".", *PACKAGES, RECIPES):
        digest.update((ROOT / package / "pyproject.toml").read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """A virtual environment with a pip that is new enough."""
    if not (VENV / "bin" / "python").exists():
        try:
            import ensurepip  # noqa: F401  Debian ships venv without it
            import venv
        except ImportError:
            fail("this Python cannot make virtual environments; on Debian: apt-get install python3-venv")
        venv.create(VENV, with_pip=True)
    pip("pip itself", "--upgrade", "pip>=25.1", "hatchling>=1.27,<2", "editables>=0.5,<1")


def install_workspace() -> None:
    """The compiled library first, because it takes longest and fails for reasons of its own; then the packages."""
    if not has("llama_cpp"):
        if not (shutil.which(os.environ.get("CXX", "c++")) and shutil.which(os.environ.get("CC", "cc"))):
            fail(
                "no C/C++ compiler found, and llama.cpp has to be compiled; on Debian: apt-get install build-essential cmake"
            )
        pip("llama.cpp (compiles for about five minutes the first time)", "llama-cpp-python>=0.3.36,<0.4")
    editable = [argument for package in PACKAGES for argument in ("-e", package)]
    pip("Trenza and what it needs", "--no-build-isolation", *editable)


def has(module: str) -> bool:
    """Whether the environment can import a module."""
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([VENV / "bin" / "python", "-c", probe], check=False).returncode == 0


def pip(what: str, *arguments: str) -> None:
    """Installs something, with a sign of life every ten seconds."""
    print(f"  {what} …", end="", flush=True)
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--progress-bar", "off", *arguments]
    begun = time.monotonic()
    with LOG.open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while True:
            try:
                code = process.wait(10)
                break
            except subprocess.TimeoutExpired:
                print(".", end="", flush=True)
            except KeyboardInterrupt:
                process.terminate()
                process.wait()
                fail("interrupted; the next run goes on from here")
    print(f" {time.monotonic() - begun:.0f} s", flush=True)
    if code:
        print("".join(LOG.read_text(errors="replace").splitlines(keepends=True)[-25:]), file=sys.stderr)
        fail(f"could not install {what}; the whole story is in {LOG.relative_to(ROOT)}")


def fail(message: str) -> None:
    """Ends with one line that says what to do."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
