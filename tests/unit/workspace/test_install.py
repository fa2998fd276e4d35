"""The installer: asks for nothing when all is there, and says in one line what is missing."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import IO

import pytest
from import_rules import FOLDERS, REPOSITORY

SOURCE = REPOSITORY / "tools" / "install.py"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer at work in a copy of the workspace's package files; it may not start anything."""
    for name in ("pyproject.toml", "tools/install.py", *(f"{folder}/pyproject.toml" for folder in FOLDERS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    spec = importlib.util.spec_from_file_location("install", tmp_path / "tools" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["install.py", "run"])
    for name in ("run", "Popen"):
        monkeypatch.setattr(module.subprocess, name, lambda *_, **__: pytest.fail("it started something"))
    return module


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that it ended with."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_nothing_happens_when_all_is_there(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    install.VENV.mkdir()
    (install.VENV / ".trenza-run").write_text(install.fingerprint("run"))
    install.main()
    assert capsys.readouterr() == ("", "")


def test_it_installs_again_when_a_dependency_changes_and_not_for_a_linters_setting(install: ModuleType) -> None:
    before = install.fingerprint("run"), install.fingerprint("dev")
    assert before[0] != before[1]
    root = install.ROOT / "pyproject.toml"
    root.write_text(root.read_text().replace("line-length = 120", "line-length = 119"))
    assert (install.fingerprint("run"), install.fingerprint("dev")) == before
    gateway = install.ROOT / "gateway" / "pyproject.toml"
    gateway.write_text(gateway.read_text().replace("fastapi>=", "fastapi>"))
    assert install.fingerprint("run") != before[0]


def test_it_knows_every_package(install: ModuleType) -> None:
    assert {*install.PACKAGES, install.RECIPES} == set(FOLDERS)


def test_an_old_python_is_told_so(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    with pytest.raises(SystemExit, match="1"):
        install.main()
    assert complaint(capsys).startswith("error: Trenza needs Python 3.11 or newer and this is 3.10.2; ")


@pytest.mark.parametrize(("present", "language"), [([], "C"), (["gcc"], "C++"), (["g++"], "C")])
def test_a_missing_compiler_is_named_with_what_to_install(
    install: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    present: list[str],
    language: str,
) -> None:
    for name in present:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(install, "has", lambda _: False)
    with pytest.raises(SystemExit, match="1"):
        install.install_workspace()
    line = complaint(capsys)
    assert line.startswith(f"error: no {language} compiler found")
    assert "apt-get install build-essential cmake" in line


def test_a_chosen_compiler_counts(install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my-cc", "my-c++"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "my-cc -m64")
    monkeypatch.setenv("CXX", str(tmp_path / "my-c++"))
    install.require_compiler()


def test_a_python_without_venv_is_told_so(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match="1"):
        install.main()
    assert complaint(capsys).endswith("on Debian: apt-get install python3-venv")


def test_a_failed_step_ends_with_where_to_read_on(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        def __init__(self, _: list[str], stdout: IO[str], **__: object) -> None:
            stdout.write("no network\n")

        def wait(self, _: float) -> int:
            return 1

    monkeypatch.setattr(install.subprocess, "Popen", Failing)
    install.LOG.parent.mkdir()
    with pytest.raises(SystemExit, match="1"):
        install.pip("a thing, which is large", "thing")
    assert capsys.readouterr().err.splitlines() == [
        "no network",
        "",
        "error: could not install a thing; the whole story is in .trenza/install.log",
    ]
