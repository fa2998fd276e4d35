"""Fills an image: `python3 images/install.py COMPONENT --into PREFIX`, the same in a Dockerfile, in a test and by hand.

PREFIX gets `venv`, a virtual environment without pip that holds the component and what it needs and nothing else; `bin/component`,
which runs it; `bin/healthy`, which asks whether it serves; and, for a model service, the starter models of its modality. It has to
lie where it will be used. `--compile-only` makes the wheel of llama.cpp and stops there, so that an image's builder can keep that
layer. Uses the standard library only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LLAMA = "llama-cpp-python"
CUDA_ARCHITECTURES = "75;80;86;89;90;100;120"
"""Turing to Blackwell; what is newer runs the last one's portable code."""
HEALTH_PORT = 9101


@dataclass(frozen=True)
class Component:
    """What an image runs: the folder of its package, the extras that it always has, and its settings inside a container."""

    folder: str
    extras: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


_SERVICE = (("GRPC_PORT", "9092"),)
COMPONENTS = {
    "gateway": Component("gateway", ("s3",)),
    "scheduler": Component("scheduler", settings=(("GRPC_PORT", "9091"),)),
    "chat": Component("services/chat", settings=_SERVICE),
    "audio": Component("services/audio", settings=_SERVICE),
    "vision": Component("services/vision", settings=_SERVICE),
    "images": Component("services/images", settings=_SERVICE),
    "fetch": Component("fetch"),
}
MODALITIES = ("chat", "audio", "vision", "images")


def main() -> None:
    """Does what the command line says."""
    arguments = _arguments()
    packages = closure(COMPONENTS[arguments.component].folder)
    with tempfile.TemporaryDirectory(prefix="trenza-wheels-") as scratch:
        wheels = arguments.wheels or Path(scratch)
        wheels.mkdir(parents=True, exist_ok=True)
        if needs_llama(packages) and not _made(wheels, LLAMA):
            compile_llama(wheels, arguments.variant, arguments.cuda_architectures, arguments.cached_llama)
        if not arguments.compile_only:
            build(packages, wheels)
            fill(arguments, packages, wheels)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("component", choices=COMPONENTS)
    parser.add_argument("--into", type=Path, metavar="PREFIX", help="folder to fill")
    parser.add_argument("--variant", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--wheels", type=Path, help="folder for wheels; those that are there already are not made again"
    )
    parser.add_argument("--extras", default="", help="more extras of the component's package, separated by commas")
    parser.add_argument("--torch-index", default="", help="index that has the PyTorch to take; pip's own if empty")
    parser.add_argument("--cuda-architectures", default=CUDA_ARCHITECTURES, help="as CMake wants them")
    parser.add_argument("--compile-only", action="store_true", help="make the wheel of llama.cpp, if one is needed")
    parser.add_argument(
        "--cached-llama",
        action="store_true",
        help="take llama.cpp as pip built it for this machine before: for a trial, not for other machines",
    )
    arguments = parser.parse_args()
    if arguments.into is None and not arguments.compile_only:
        parser.error("--into is missing")
    return arguments


def closure(folder: str) -> list[str]:
    """The package of a folder and those of the workspace that it needs, itself first."""
    by_name = {str(project(path)["name"]): path for path in _packages()}
    found: list[str] = []
    waiting = [folder]
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.append(package)
            needs = (requirement_name(line) for line in project(package)["dependencies"])
            waiting += [by_name[name] for name in needs if name in by_name]
    return found


def _packages() -> list[str]:
    """The folders of the workspace's packages."""
    paths = [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]
    return sorted(str(path.parent.relative_to(ROOT)) for path in paths)


def project(folder: str) -> dict[str, Any]:
    """What a package says about itself."""
    tables: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return tables


def requirement_name(requirement: str) -> str:
    """The normal form of the name in a requirement."""
    return re.split(r"[^\w.-]", requirement.strip())[0].lower().replace("_", "-")


def needs_llama(packages: list[str]) -> bool:
    """Whether one of them needs llama.cpp."""
    return bool(requirement(packages, LLAMA))


def requirement(packages: list[str], name: str) -> str:
    """How the first of the packages that needs something, needs it; empty where none does."""
    lines = (line for package in packages for line in project(package)["dependencies"])
    return next((line for line in lines if requirement_name(line) == name), "")


def cmake_flags(variant: str, cuda_architectures: str, machine: str) -> list[str]:
    """How llama.cpp is compiled so that it runs on other machines than the one that compiles it.

    On x86-64 that means AVX2, FMA and F16C (2013 and later), on ARM dot products and half precision (Neoverse N1, Apple M1 and
    later). Libraries of one CPU each, chosen at run time, are no way: llama-cpp-python loads none.
    """
    flags = ["-DGGML_NATIVE=OFF"]
    if machine in ("aarch64", "arm64"):
        flags.append("-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16")
    else:
        flags += [f"-DGGML_{feature}=ON" for feature in ("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2")]
    if variant == "cuda":
        # The driver's library is not there where images are built.
        flags += ["-DGGML_CUDA=ON", "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined"]
        flags += ["-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--allow-shlib-undefined"]
        flags.append(f"-DCMAKE_CUDA_ARCHITECTURES={cuda_architectures}")
    return flags


def compile_llama(wheels: Path, variant: str, cuda_architectures: str, cached: bool) -> None:
    """Makes the wheel of llama.cpp."""
    wanted = requirement(closure("services/llama"), LLAMA)
    if cached:
        pip("wheel", "--no-deps", "--wheel-dir", str(wheels), wanted)
        return
    flags = cmake_flags(variant, cuda_architectures, platform.machine())
    # CMAKE_ARGS separates by blanks; pip's cache would give a wheel that was compiled otherwise.
    environment = {**os.environ, "CMAKE_ARGS": " ".join(flags)}
    command = ("wheel", "--no-deps", "--no-cache-dir", "--no-binary", LLAMA, "--wheel-dir", str(wheels), wanted)
    pip(*command, environment=environment)


def build(packages: list[str], wheels: Path) -> None:
    """Makes the wheels of our own packages that are not there yet."""
    missing = [package for package in packages if not _made(wheels, str(project(package)["name"]))]
    if missing:
        isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
        folders = [str(ROOT / package) for package in missing]
        pip("wheel", "--no-deps", *isolation, "--wheel-dir", str(wheels), *folders)


def fill(arguments: argparse.Namespace, packages: list[str], wheels: Path) -> None:
    """Makes the environment, the commands and the models of the component."""
    prefix = arguments.into.absolute()
    component = COMPONENTS[arguments.component]
    environment = prefix / "venv"
    venv.create(environment, with_pip=False, clear=True, symlinks=True)
    into = ("--python", str(environment / "bin" / "python"))
    torch = requirement(packages, "torch")
    if torch and arguments.torch_index:
        pip(*into, "install", "--index-url", arguments.torch_index, torch)
    extras = {packages[0]: [*component.extras, *(name for name in arguments.extras.split(",") if name)]}
    if arguments.variant == "cuda":
        extras["runtime"] = ["nvidia"]
    # By path, so that no index is asked for packages that are ours.
    chosen = [_with_extras(wheels, package, extras.get(package, [])) for package in packages]
    if needs_llama(packages):
        chosen.append(str(_made(wheels, LLAMA)))
    pip(*into, "install", *chosen)
    pip(*into, "check")
    write_commands(arguments.component, prefix)
    copy_models(arguments.component, prefix)
    shutil.copy(ROOT / "LICENSE", prefix / "LICENSE")


def _made(wheels: Path, name: str) -> Path | None:
    """The wheel of a distribution, where it was made already."""
    return next(iter(sorted(wheels.glob(f"{name.replace('-', '_')}-*.whl"))), None)


def _with_extras(wheels: Path, package: str, extras: list[str]) -> str:
    name = str(project(package)["name"])
    wheel = _made(wheels, name)
    if wheel is None:
        raise SystemExit(f"error: pip made no wheel of {name}")
    return f"{name}[{','.join(extras)}] @ {wheel.absolute().as_uri()}" if extras else str(wheel)


def write_commands(name: str, prefix: Path) -> None:
    """`bin/component`, which listens to the world unless told otherwise, as in a container it must; and `bin/healthy`."""
    python = prefix / "venv" / "bin" / "python"
    lines = [f'export {variable}="${{{variable}:-{value}}}"' for variable, value in defaults(name, prefix).items()]
    healthy = "true"
    if name != "fetch":
        port = f'"127.0.0.1:${{{_prefix(name)}HEALTH_PORT:-{HEALTH_PORT}}}"'
        healthy = f"exec {python} -m trenza_runtime.rpc.probe {port} readiness"
    _write_script(prefix / "bin" / "component", [*lines, f'exec {python} -m trenza_{name} "$@"'])
    _write_script(prefix / "bin" / "healthy", [healthy])


def defaults(name: str, prefix: Path) -> dict[str, str]:
    """The settings of a component in a container, where nobody says otherwise."""
    if name == "fetch":
        return {}
    settings = {"HOST": "0.0.0.0", "HEALTH_PORT": str(HEALTH_PORT), **dict(COMPONENTS[name].settings)}
    if name != "gateway":
        settings["METRICS_PORT"] = "9100"
    if name in MODALITIES:
        settings["MODELS_ROOT"] = str(prefix / "models" / "starter")
    return {_prefix(name) + key: value for key, value in settings.items()}


def _prefix(name: str) -> str:
    return f"TRENZA_{name.upper()}_"


def _write_script(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def copy_models(name: str, prefix: Path) -> None:
    """Copies the starter models of the component's modality; the others get none."""
    if name not in MODALITIES:
        return
    for manifest in sorted((ROOT / "models" / "starter").glob("*/model.toml")):
        if tomllib.loads(manifest.read_text())["modality"] == name:
            target = prefix / "models" / "starter" / manifest.parent.name
            shutil.copytree(manifest.parent, target, dirs_exist_ok=True)


def pip(*arguments: str, environment: dict[str, str] | None = None) -> None:
    """Runs pip; ends the program where it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    print("+ pip", *arguments, flush=True)
    if subprocess.run(command, env=environment, check=False).returncode:
        raise SystemExit(f"error: pip {arguments[0]} failed")


if __name__ == "__main__":
    main()
