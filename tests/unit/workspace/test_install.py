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


def fingerprint(install: ModuleType, level: str) -> str:
    """What is written down when everything of a level is installed."""
    return str(install.fingerprint(level, install.chosen_packages(level)))


def test_nothing_happens_when_all_is_there(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    install.VENV.mkdir()
    (install.VENV / ".trenza-run").write_text(fingerprint(install, "run"))
    install.main()
    assert capsys.readouterr() == ("", "")


def test_it_installs_again_when_a_dependency_changes_and_not_for_a_linters_setting(install: ModuleType) -> None:
    before = fingerprint(install, "run"), fingerprint(install, "dev")
    assert before[0] != before[1]
    root = install.ROOT / "pyproject.toml"
    root.write_text(root.read_text().replace("line-length = 120", "line-length = 119"))
    assert (fingerprint(install, "run"), fingerprint(install, "dev")) == before
    gateway = install.ROOT / "gateway" / "pyproject.toml"
    gateway.write_text(gateway.read_text().replace("fastapi>=", "fastapi>"))
    assert fingerprint(install, "run") != before[0]


def test_it_knows_every_package(install: ModuleType) -> None:
    assert {*install.chosen_packages("dev"), *install.DEVELOPMENT} == set(FOLDERS)


def test_only_the_wanted_modalities_are_installed(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "services/images" in install.chosen_packages("run")
    monkeypatch.setenv("TRENZA_MODALITIES", "chat, audio")
    chosen = install.chosen_packages("run")
    assert [package for package in chosen if package.startswith("services/")] == [
        "services/llama",
        "services/chat",
        "services/audio",
    ]
    assert "services/images" in install.chosen_packages("dev"), "tests need all"
    monkeypatch.setenv("TRENZA_MODALITIES", "smell")
    with pytest.raises(SystemExit, match="1"):
        install.chosen_packages("run")
    assert complaint(capsys) == "error: TRENZA_MODALITIES names 'smell'; there are chat, audio, images, vision"


def test_the_compiler_is_only_needed_for_what_is_compiled(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = []
    monkeypatch.setattr(install, "require_compiler", lambda: pytest.fail("nothing is compiled"))
    monkeypatch.setattr(install, "pip", lambda what, *_: installed.append(what))
    install.install_workspace(["protos", "services/audio"])
    assert installed == ["Trenza and what it needs"]


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
        install.install_workspace(["services/llama"])
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
