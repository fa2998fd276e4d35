"""`trenza keys` and the file that it keeps, which the gateway must be able to read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from trenza.cli.keys import create_key, key_names, revoke_key
from trenza.cli.main import main
from trenza_gateway.auth.keys import KeyFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_the_gateway_accepts_what_is_created(path: Path) -> None:
    ann, bob = create_key(path, "ann"), create_key(path, "bob")
    assert ann != bob
    keys = KeyFile(path)
    assert (keys.owner(ann), keys.owner(bob), keys.owner("trz-")) == ("ann", "bob", None)


def test_only_the_owner_reads_the_file_and_no_key_is_in_it(path: Path) -> None:
    key = create_key(path, "ann")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert list(path.parent.iterdir()) == [path]


def test_a_revoked_key_is_gone_and_the_rest_stays(path: Path) -> None:
    path.write_text("# the team's keys")
    for name in ("ann", "bob", "cleo"):
        create_key(path, name)
    revoke_key(path, "bob")
    assert key_names(path) == ["ann", "cleo"]
    assert path.read_text().startswith("# the team's keys\n")


@pytest.mark.parametrize(
    "words",
    [
        ["create", "ann"],
        ["create", "a b"],
        ["create", "x" * 65],
        ["revoke", "nobody"],
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    create_key(path, "ann")
    before = path.read_text()
    assert main(["keys", *words, "--file", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert path.read_text() == before


def test_the_command(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRENZA_GATEWAY_API_KEYS_FILE", str(path))
    assert main(["keys", "create", "ann"]) == 0
    key = capsys.readouterr().out.strip()
    assert KeyFile(path).owner(key) == "ann"
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out == "ann\n"
    assert main(["keys", "revoke", "ann"]) == 0
    monkeypatch.delenv("TRENZA_GATEWAY_API_KEYS_FILE")
    assert main(["keys", "list"]) == 1
    assert main(["keys", "list", "--file", str(path.parent / "no" / "such")]) == 1
