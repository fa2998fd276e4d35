"""`trenza keys`: makes, lists and revokes API keys in a file that the gateway reads."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trenza.cli.errors import CommandError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY_BYTES = 32


def keys(arguments: Sequence[str]) -> int:
    """Make, list and revoke API keys."""
    parser = argparse.ArgumentParser(prog="trenza keys", description=keys.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, help_text in (
        ("create", "make a key and print it, once"),
        ("revoke", "take a key back"),
        ("list", "show the names"),
    ):
        sub = actions.add_parser(action, help=help_text)
        if action != "list":
            sub.add_argument("name", help="whose key it is: letters, digits, . _ -")
        sub.add_argument("--file", type=Path, default=_default_file(), help="default: $TRENZA_GATEWAY_API_KEYS_FILE")
    options = parser.parse_args(arguments)
    if options.file is None:
        raise CommandError("say which file with --file or TRENZA_GATEWAY_API_KEYS_FILE")
    if options.action == "create":
        print(create_key(options.file, options.name))
        print("This is the only time that the key is shown; the file keeps a hash of it.", file=sys.stderr)
    elif options.action == "revoke":
        revoke_key(options.file, options.name)
    else:
        print("\n".join(key_names(options.file)))
    return 0


def create_key(path: Path, name: str) -> str:
    """Adds a new key's hash to the file, which is made where there is none, and returns the key. Raises CommandError."""
    if not _NAME.fullmatch(name):
        raise CommandError(f"{name!r} is no name for a key: 1 to 64 letters, digits, dots, underscores and hyphens")
    key = f"trz-{secrets.token_urlsafe(_KEY_BYTES)}"
    with _locked(path, create=True) as lines:
        if name in _names(lines):
            raise CommandError(f"there is a key named {name!r} already; revoke it first")
        digest = hashlib.sha256(key.encode()).hexdigest()
        _replace(path, [*lines, f"{name}:{digest}"])
    return key


def revoke_key(path: Path, name: str) -> None:
    """Removes a key's line from the file. Raises CommandError when there is none of that name."""
    with _locked(path) as lines:
        if name not in _names(lines):
            raise CommandError(f"there is no key named {name!r}")
        _replace(path, [line for line in lines if _names([line]) != [name]])


def key_names(path: Path) -> list[str]:
    """The names of all keys in the file. Raises CommandError."""
    with _locked(path) as lines:
        return _names(lines)


def _default_file() -> Path | None:
    said = os.environ.get("TRENZA_GATEWAY_API_KEYS_FILE")
    return Path(said) if said else None


def _names(lines: Sequence[str]) -> list[str]:
    return [line.partition(":")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@contextlib.contextmanager
def _locked(path: Path, create: bool = False) -> Iterator[list[str]]:
    """The file's lines, while no other `trenza keys` changes it."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise CommandError(f"{path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield path.read_text(encoding="utf-8").splitlines() if path.exists() or not create else []
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from error
    finally:
        os.close(folder)


def _replace(path: Path, lines: Sequence[str]) -> None:
    """Writes the whole file at once, readable by its owner only: a gateway that reads it meanwhile sees the old or the new."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    draft.replace(path)
