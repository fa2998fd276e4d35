"""Imports point one way, cores are pure, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from import_rules import ALLOWED, FOLDERS, REPOSITORY, imports, modules, part_of, violations

COMES_WITH = {"starlette": "fastapi", "pydantic-core": "pydantic", "protobuf": "trenza-protos"}
"""Distributions that are the foundation of another one, and need not be declared beside it."""
NOT_INSTALLED = {"pynvml": "nvidia-ml-py"}
"""Distributions of modules that are imported where they are there, and need not be."""


def test_every_import_keeps_to_the_rules() -> None:
    assert [line for module, path in modules() for line in violations(module, path.read_text())] == []


def test_the_walk_sees_every_part() -> None:
    """A part without a row, or a row without a part, would be a rule that guards nothing."""
    written_by_hand = {part_of(module) for module, _ in modules()}
    assert written_by_hand == set(ALLOWED) - {"trenza"}
    assert {path.parent for path in REPOSITORY.glob("*/pyproject.toml")} | {
        path.parent for path in REPOSITORY.glob("services/*/pyproject.toml")
    } == {REPOSITORY / folder for folder in FOLDERS}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trenza_runtime.rpc.server", "import trenza_gateway"),
        ("trenza_runtime.rpc.server", "from trenza_scheduler.core import domain"),
        ("trenza_llama.engine", "import trenza_chat.servicer"),
        ("trenza_scheduler.owner", "from trenza_gateway import app"),
        ("trenza_scheduler.owner", "from trenza_llama import engine"),
        ("trenza_gateway.app", "def f():\n    from trenza.cli import main"),
        ("trenza_gateway.app", "import importlib\nimportlib.import_module('trenza_chat')"),
        ("trenza_local.command", "from trenza_chat import settings"),
        ("trenza_recipes.starter_chat.world", "from trenza_llama.core import utf8"),
        ("trenza_smell.servicer", "import json"),
        ("trenza_vision.servicer", "from trenza_chat import models"),
        ("trenza_chat.servicer", "import llama_cpp"),
        ("trenza_llama.device", "from torch import nn"),
        ("trenza_scheduler.core.queue", "import asyncio"),
        ("trenza_scheduler.core.queue", "import time"),
        ("trenza_scheduler.core.queue", "import random"),
        ("trenza_scheduler.core.queue", "from random import choice"),
        ("trenza_scheduler.core.queue", "from datetime import datetime"),
        ("trenza_scheduler.core.queue", "import os.path"),
        ("trenza_scheduler.core.queue", "if True:\n    import grpc"),
        ("trenza_scheduler.core.queue", "from trenza.scheduler.v1 import scheduler_pb2"),
        ("trenza_scheduler.core.queue", "from trenza_scheduler.settings import Settings"),
        ("trenza_scheduler.core.queue", "from ..settings import Settings"),
        ("trenza_gateway.dispatch.core.picture", "from trenza_runtime.core.line import Line"),
        ("trenza_llama.core.plan", "import numpy"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trenza_runtime.rpc.server", "import grpc\nfrom trenza.common.v1 import common_pb2"),
        ("trenza_chat.models", "from trenza_llama.engine import LlamaSpec"),
        ("trenza_llama.engines.llama", "import llama_cpp, asyncio, time"),
        ("trenza_recipes.starter_chat.train", "import torch"),
        (
            "trenza_scheduler.core.queue",
            "from random import Random\nimport heapq\nfrom trenza_scheduler.core import domain",
        ),
        ("trenza_scheduler.core.queue", "from .domain import Ticket\nfrom collections.abc import Mapping"),
        ("trenza_scheduler.owner", "import asyncio, time, random\nfrom trenza_scheduler.core.queue import Queue"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(module, source) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_package_declares_what_it_imports(folder: str) -> None:
    """An image of one service installs that package only."""
    declared = {*_declared(folder), "the standard library"}
    missing = {
        f"{module}: {name}"
        for module, path in modules()
        if path.is_relative_to(REPOSITORY / folder)
        for name in imports(module, path.read_text())
        if part_of(name) != part_of(module) and not _providers(name) & declared
    }
    assert sorted(missing) == []


def test_tests_import_what_make_test_installs() -> None:
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    declared = {_distribution(line) for line in groups["dev"]}.union(*(_declared(folder) for folder in FOLDERS))
    declared |= {_name(folder) for folder in FOLDERS} | {"the standard library"}
    paths = [*(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "bench").rglob("*.py")]
    beside = {part for path in paths for part in path.relative_to(REPOSITORY).with_suffix("").parts}
    missing = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in paths
        for name in imports(path.stem, path.read_text())
        if name.partition(".")[0] not in beside and not _providers(name) & declared
    }
    assert sorted(missing) == []


def _name(folder: str) -> str:
    """The distribution that a folder makes; `make test` installs them all."""
    return str(tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]["name"])


def _declared(folder: str) -> set[str]:
    """The distributions that a package asks for, always or as an extra."""
    project = tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    return {_distribution(line) for lines in [project.get("dependencies", []), *extras] for line in lines}


def _providers(name: str) -> set[str]:
    """The distributions that a module may come from."""
    part, top = part_of(name), name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return {"the standard library"}
    if top.startswith("trenza"):
        return {{"trenza": "trenza-protos", "trenza.cli": "trenza-client"}.get(part, _distribution(part))}
    direct = {_distribution(provider) for provider in _installed().get(top, [NOT_INSTALLED.get(top, top)])}
    return direct | {COMES_WITH[provider] for provider in direct & set(COMES_WITH)}


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def _distribution(requirement: str) -> str:
    """The normal form of a requirement's name."""
    return re.split(r"[^\w.-]", requirement.strip())[0].lower().replace("_", "-").replace(".", "-")


def test_stubs_import_stubs_only() -> None:
    found = set()
    for path in (REPOSITORY / "protos").rglob("*_pb2*.py"):
        tree = ast.parse(path.read_text())
        found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name for name in found if name.startswith("trenza")} <= {
        name for name in found if re.fullmatch(r"trenza\.\w+\.v1", name)
    }
    assert not [name for name in found if name.startswith("trenza_")]
