"""The house rules that no linter knows: length, docstrings, names, the namespace, no lock files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_rules import REPOSITORY

LINES_LIMIT = 70
SKIPPED = {"build", "dist", "node_modules", "__pycache__"}
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
LOCK_FILES = {"poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "package-lock.json", "buf.lock"}


def files(suffix: str = "") -> Iterator[Path]:
    """Every file of the repository, without what is generated or installed."""
    folders = [REPOSITORY]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir():
                if path.name not in SKIPPED and (not path.name.startswith(".") or path.name == ".ci"):
                    folders.append(path)
            elif path.name.endswith(suffix):
                yield path


def sources() -> list[Path]:
    return [path for path in files(".py") if "_pb2" not in path.name]


def long_functions(source: str) -> list[str]:
    """Functions of more lines than the limit, without their decorators."""
    return [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LINES_LIMIT
    ]


def opens_with_docstring(source: str) -> bool:
    tree = ast.parse(source)
    return not tree.body or bool(ast.get_docstring(tree))


def test_no_function_is_longer_than_a_screen() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {line}" for path in sources() for line in long_functions(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(("lines", "found"), [(LINES_LIMIT, 0), (LINES_LIMIT + 1, 1)])
def test_a_long_function_is_found(lines: int, found: int) -> None:
    body = "\n".join("        pass" for _ in range(lines - 1))
    assert len(long_functions(f"class C:\n    @property\n    async def f(self):\n{body}\n")) == found


def test_every_module_says_what_it_is_for() -> None:
    """Tests need not: their names say it."""
    others = [path for path in sources() if not path.name.startswith("test_")]
    assert [str(path) for path in others if not opens_with_docstring(path.read_text())] == []


def test_a_missing_docstring_is_found() -> None:
    assert not opens_with_docstring("import os\n")
    assert opens_with_docstring('"""For this."""\nimport os\n')


def test_the_namespace_belongs_to_no_package() -> None:
    """`trenza` is spread over several distributions; an `__init__.py` in one of them would hide the others."""
    assert [str(path) for path in REPOSITORY.glob("*/trenza/__init__.py")] == []
    assert {path.name for path in REPOSITORY.glob("protos/trenza/*/v1/__init__.py")} == set()


def test_no_lock_files() -> None:
    assert [str(path) for path in files() if path.name in LOCK_FILES] == []


def test_no_module_is_named_after_nothing() -> None:
    allowed = {REPOSITORY / "protos" / "trenza" / "common"}
    named = {path.stem: path for path in sources()} | {
        path.parent.name: path.parent for path in files() if path.parent not in allowed
    }
    assert [str(named[name]) for name in EMPTY_NAMES & set(named)] == []


def test_every_api_has_a_version_and_its_stubs() -> None:
    protos = list((REPOSITORY / "protos").rglob("*.proto"))
    assert {path.parent.parent.name for path in protos} == {
        *("audio", "chat", "common", "images", "keda", "scheduler", "vision"),
    }
    for path in protos:
        assert path.parent.name == "v1"
        for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert path.with_name(path.stem + suffix).exists()
