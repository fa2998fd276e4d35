"""Which names of a source may become files here, and which of them a model wants."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

MAX_NAME_CHARS = 512
MAX_FILES = 10_000
"""Files of one model at most; more are a mistaken source."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class NameRefused(Exception):
    """A name, or a set of names, that is not taken; the message is a sentence."""


def folder_of(model: str) -> str:
    """The folder of a model: its name with `--` for what a folder's name cannot hold or had better not."""
    return re.sub(r"[/:@]", "--", model)


def require_safe(name: str) -> str:
    """The name, if it names a file below a folder and nothing else. Raises NameRefused."""
    parts = name.split("/")
    if not name or len(name) > MAX_NAME_CHARS or _CONTROL.search(name) or not name.isprintable():
        raise NameRefused(f"the source has a file named {name[:80]!r}, which cannot be written here")
    if any(part in ("", ".", "..") for part in parts) or any(len(part.encode()) > 255 for part in parts):
        raise NameRefused(f"the source has a file named {name[:80]!r}, which would lie outside the model's folder")
    return name


def is_hidden(name: str) -> bool:
    """Whether any part of the name begins with a dot, as a repository's own files do."""
    return any(part.startswith(".") for part in name.split("/"))


def chosen(names: Iterable[str], patterns: Sequence[str], sums: Mapping[str, str]) -> dict[str, str]:
    """The files that a model wants, sorted, each with the one of `sums` (by name) that it must have, empty where there is none.

    Patterns are a shell's, in which `*` matches `/` too; one that ends with `/` means all below; none at all means everything.
    Hidden files are left out. Raises NameRefused for a name that is not safe, a pattern or a sum's name that nothing answers to,
    a file that is another one's folder, and too many files.
    """
    offered = sorted({require_safe(name) for name in names if not is_hidden(require_safe(name))})
    if not offered:
        raise NameRefused("the source has no files")
    found: set[str] = set()
    for pattern in patterns or ("*",):
        matching = _matching(offered, pattern)
        if not matching:
            raise NameRefused(f"the source has no file that matches {pattern!r}")
        found.update(matching)
    if len(found) > MAX_FILES:
        raise NameRefused(f"the source has {len(found)} files for this model, and {MAX_FILES} are the most")
    for name in sorted(sums):
        if name not in found:
            raise NameRefused(f"a checksum is given for {name!r}, which is not among the model's files")
    _require_tree(found)
    return {name: sums.get(name, "") for name in sorted(found)}


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    if pattern in names:
        return [pattern]
    glob = f"{pattern}*" if pattern.endswith("/") else pattern
    return [name for name in names if fnmatchcase(name, glob)]


def _require_tree(names: Collection[str]) -> None:
    files = set(names)
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in files:
                raise NameRefused(f"{'/'.join(parts[:depth])!r} is both a file and a folder of the source")
