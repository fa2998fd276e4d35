"""Addresses of sources: `hub://org/repo[@revision][/path]`, `s3://bucket[/prefix]`, `file:///folder`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_HUB = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([^/@]{1,255}))?(?:/(.*))?", re.ASCII)
_BUCKET = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")


@dataclass(frozen=True)
class HubAddress:
    """A repository of a hub, at a revision, and a file or folder in it; empty is all of it."""

    repository: str
    revision: str
    path: str


@dataclass(frozen=True)
class BucketAddress:
    """A bucket, and a key or what keys begin with as with a folder; empty is all of it."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class FolderAddress:
    """A folder or file that is mounted here."""

    path: str


SourceAddress = HubAddress | BucketAddress | FolderAddress


def parse_address(text: str) -> SourceAddress:
    """Takes an address apart. Raises ValueError with a sentence.

    A revision whose name has a slash is written with `%2F`; nothing else is unescaped.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("hub", "s3", "file"):
        raise ValueError("a source begins with hub://, s3:// or file://")
    if scheme == "file":
        return FolderAddress(_absolute(rest))
    found = (_HUB if scheme == "hub" else _BUCKET).fullmatch(rest)
    if found is None:
        form = "hub://org/repo[@revision][/path]" if scheme == "hub" else "s3://bucket[/prefix]"
        raise ValueError(f"the source is not of the form {form}")
    if scheme == "s3":
        return BucketAddress(found[1], _inner(found[2] or ""))
    revision = unquote(found[2] or "main")
    if ".." in revision.split("/") or not revision.isprintable():
        raise ValueError(f"{revision!r} is no revision")
    if ".." in found[1]:
        raise ValueError(f"{found[1]!r} is no repository")
    return HubAddress(found[1], revision, _inner(found[3] or ""))


def _inner(path: str) -> str:
    parts = path.strip("/").split("/")
    if path.strip("/") and any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the path {path!r} of the source must have no empty parts, no . and no ..")
    return path.strip("/")


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError("a folder is written file:///absolute/path, without ..")
    return path
