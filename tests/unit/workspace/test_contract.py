"""`make contract`, a part of `make check`, finds what it is there to find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from import_rules import REPOSITORY

COMMON = "trenza/common/v1/common.proto"


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """A copy of the contract to spoil."""
    return shutil.copytree(
        REPOSITORY / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )


def check(protos: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["make", "--no-print-directory", "contract", f"BIN={Path(sys.executable).parent}", f"PROTO_DIR={protos}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_contract_is_in_order(protos: Path) -> None:
    code, said = check(protos)
    assert code == 0, said


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        (
            COMMON,
            '  // Who made it; "trenza" where the manifest does not say.\n  string owned_by = 6;\n',
            "",
            'field "6" with name "owned_by" on message "Model" was deleted',
        ),
        (COMMON, "string owned_by = 6;", "string owned_by = 60;", "owned_by"),
        (COMMON, "string owned_by = 6;", "bytes owned_by = 6;", "changed type"),
        (
            COMMON,
            '  // Who made it; "trenza" where the manifest does not say.\n',
            "",
            "should have a non-empty comment",
        ),
        (COMMON, "string owned_by = 6;", "string ownedBy = 6;", "lower_snake_case"),
        (COMMON, "  string owned_by = 6;", "    string owned_by = 6;", "-    string owned_by = 6;"),
        (COMMON, "  string owned_by = 6;", "  string owned_by = 6;\n  // New.\n  string newcomer = 600;", "newcomer"),
        ("trenza/common/v1/common_pb2.pyi", "class Model(", "class Models(", "class Models("),
    ],
    ids=[
        "field gone",
        "renumbered",
        "retyped",
        "undocumented",
        "badly named",
        "badly formatted",
        "stubs old",
        "stub edited",
    ],
)
def test_a_spoilt_contract_is_found(protos: Path, file: str, old: str, new: str, complaint: str) -> None:
    spoil(protos / file, old, new)
    code, said = check(protos)
    assert code != 0
    assert complaint in said


def test_a_stub_without_a_proto_is_found(protos: Path) -> None:
    shutil.copy(protos / "trenza/chat/v1/chat_pb2.py", protos / "trenza/chat/v1/old_pb2.py")
    code, said = check(protos)
    assert code != 0
    assert "old_pb2.py" in said
