"""Makes `.venv` and installs the workspace into it: `python3 tools/install.py run` or `… dev`.

`run` installs the services of the modalities that TRENZA_MODALITIES names, all where it is not set; PyTorch, which takes
several gigabytes, comes with the images service only. `dev` installs everything. Does nothing, and asks no network, when
everything is there already. Uses the standard library only, and nothing that a Python which is too old cannot even read: it has
to get as far as saying so.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = ROOT / ".trenza" / "install.log"
# In the order of their dependencies, the services of a modality between what they need and what starts them.
BASE = ("protos", "runtime", "scheduler", "gateway", "client", "local")
SERVICES = {
    "chat": ("services/llama", "services/chat"),
    "audio": ("services/audio",),
    "images": ("services/images",),
    "vision": ("services/llama", "services/pictures", "services/vision"),
}
# Tests ask the recipes' questions; training needs more than what is installed here. `fetch` is for clusters.
DEVELOPMENT = ("models", "fetch")
OLDEST_PYTHON = (3, 11)
SIGN_OF_LIFE_S = 10
BUILD_TOOLS = ("pip>=25.1", "hatchling>=1.27,<2", "editables>=0.5,<1")
LLAMA_CPP = "llama-cpp-python>=0.3.36,<0.4"


def main() -> None:
    """Brings the environment to the level that is asked for."""
    level = sys.argv[1] if len(sys.argv) > 1 else "run"
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(str(part) for part in sys.version_info[:3])
        fail(
            f"Trenza needs Python 3.11 or newer and this is {found}; name a newer one, as in make run PYTHON=python3.12"
        )
    packages = chosen_packages(level)
    stamp = VENV / f".trenza-{level}"
    wanted = fingerprint(level, packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    print(f"Installing into {VENV.name}/ (details in {LOG.relative_to(ROOT)})", flush=True)
    make_environment()
    install_workspace(packages)
    if level == "dev":
        editable = [argument for package in DEVELOPMENT for argument in ("-e", package)]
        pip("the tools that tests and checks use", "--no-build-isolation", "--group", "dev", *editable)
        (VENV / ".trenza-run").write_text(fingerprint("run", packages))
    stamp.write_text(wanted)


def chosen_packages(level: str) -> "list[str]":
    """The workspace's packages that this level installs, whole modalities at a time."""
    named = os.environ.get("TRENZA_MODALITIES", ",".join(SERVICES)) if level == "run" else ",".join(SERVICES)
    modalities = [name.strip() for name in named.split(",") if name.strip()]
    unknown = [name for name in modalities if name not in SERVICES]
    if unknown:
        fail(f"TRENZA_MODALITIES names {unknown[0]!r}; there are {', '.join(SERVICES)}")
    services = [package for name in SERVICES if name in modalities for package in SERVICES[name]]
    return [*BASE[:2], *dict.fromkeys(services), *BASE[2:]]


def fingerprint(level: str, packages: "list[str]") -> str:
    """Changes whenever what has to be installed does, or where, or with which Python."""
    import tomllib  # not there where Python is too old

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    digest = hashlib.sha256(repr((level, sys.version, str(ROOT), groups, packages)).encode())
    for package in (*packages, *DEVELOPMENT):
        digest.update((ROOT / package / "pyproject.toml").read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """A virtual environment of this Python with a pip that is new enough."""
    if not environment_works():
        try:
            import ensurepip  # noqa: F401  Debian ships venv without it
            import venv
        except ImportError:
            fail("this Python cannot make virtual environments; on Debian: apt-get install python3-venv")
        print(f"  virtual environment of Python {sys.version.split()[0]}", flush=True)
        venv.create(VENV, with_pip=True, clear=VENV.exists(), symlinks=True)
    pip("pip and what builds packages", "--upgrade", *BUILD_TOOLS)


def environment_works() -> bool:
    """Whether there is an environment, whole, and of this version of Python."""
    probe = f"import pip, sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    return (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-c", probe], stderr=subprocess.DEVNULL, check=False).returncode == 0
    )


def install_workspace(packages: "list[str]") -> None:
    """The compiled library first, because it takes longest and fails for reasons of its own; then the packages."""
    if "services/llama" in packages and not has("llama_cpp"):
        require_compiler()
        pip("llama.cpp, which is compiled: about five minutes the first time", "--verbose", LLAMA_CPP)
    editable = [argument for package in packages for argument in ("-e", package)]
    torch = ", PyTorch included" if "services/images" in packages else ""
    pip("Trenza and what it needs" + torch, "--no-build-isolation", *editable)


def has(module: str) -> bool:
    """Whether the environment has a module."""
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([PYTHON, "-c", probe], check=False).returncode == 0


def require_compiler() -> None:
    """Fails where there is no C or no C++ compiler. A missing cmake is no reason: pip brings its own."""
    for variable, usual in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        chosen = shlex.split(os.environ.get(variable, ""))
        if not any(shutil.which(name) for name in chosen[:1] or usual):
            language = "C" if variable == "CC" else "C++"
            fail(
                f"no {language} compiler found, and llama.cpp has to be compiled; on Debian: apt-get install build-essential cmake"
            )


def pip(what: str, *arguments: str) -> None:
    """Installs something, with a sign of life now and then. Fails with the end of pip's own story."""
    print(f"  {what} …", end="", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check", *arguments]
    begun = time.monotonic()
    with LOG.open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            code = wait_for(process)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            print()
            fail("interrupted; the next run goes on from here")
    print(f" {time.monotonic() - begun:.0f} s", flush=True)
    if code:
        print("".join(LOG.read_text(errors="replace").splitlines(keepends=True)[-25:]), file=sys.stderr)
        fail(f"could not install {what.partition(',')[0]}; the whole story is in {LOG.relative_to(ROOT)}")


def wait_for(process: "subprocess.Popen[bytes]") -> int:
    """The exit code, in the end; until then a dot, or how far the compiler is."""
    while True:
        try:
            return process.wait(SIGN_OF_LIFE_S)
        except subprocess.TimeoutExpired:
            with LOG.open("rb") as log:
                log.seek(max(0, LOG.stat().st_size - 4096))
                steps = re.findall(rb"\[(\d+)/(\d+)\]", log.read())
            done, total = (int(number) for number in steps[-1]) if steps else (0, 0)
            print(f" {100 * done // total}%" if total else ".", end="", flush=True)


def fail(message: str) -> None:
    """Ends with one line that says what to do."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
