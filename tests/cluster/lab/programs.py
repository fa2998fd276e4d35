"""Where the programs of the laboratory are, and what to say when they are not."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from mesh import REPOSITORY

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")


@cache
def _path_of() -> Callable[[str], Path]:
    """`tools/binaries.py` knows the versions and the cache. Tools are no package, so it is loaded by its path."""
    return runpy.run_path(str(REPOSITORY / "tools" / "binaries.py"))["path_of"]


def program(name: str) -> Path:
    """The path of a program (of the folder of schemas, for `crds`); skips the test, or fails it where the tier is required."""
    path = _path_of()(name)
    if path.exists():
        return path
    if name == "kubectl" and (found := shutil.which(name)):
        return Path(found)
    unavailable(f"{name} is not built; `make test-cluster` builds it, or `python3 tools/binaries.py {name}`")


def unavailable(reason: str) -> NoReturn:
    """Says plainly that something did not run: a failure with TRENZA_CLUSTER=require, else a skipped test."""
    if os.environ.get("TRENZA_CLUSTER") == "require":
        pytest.fail(f"TRENZA_CLUSTER=require: {reason}", pytrace=False)
    pytest.skip(reason)
