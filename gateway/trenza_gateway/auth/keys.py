"""API keys: a file of names and hashes, checked in constant time, read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_KEYS = 10_000
MAX_KEY_LENGTH = 512
CHECK_EVERY_S = 1.0

_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9a-f]{64})")


class KeyFileError(Exception):
    """The file of keys cannot be used; the message says why."""


def parse_keys(text: str) -> dict[str, bytes]:
    """The SHA-256 digests by name of lines `name:hex digest`; empty lines and lines that begin with # are skipped.

    Raises KeyFileError for anything else, a name that is there twice, and too many keys.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        match = _LINE.fullmatch(said)
        if match is None:
            raise KeyFileError(f"line {number} is not 'name:sha256 in hex'")
        if match["name"] in keys:
            raise KeyFileError(f"line {number}: the name '{match['name']}' is there twice")
        keys[match["name"]] = bytes.fromhex(match["digest"])
    if len(keys) > MAX_KEYS:
        raise KeyFileError(f"more than {MAX_KEYS} keys")
    return keys


def find_owner(keys: Mapping[str, bytes], presented: str) -> str | None:
    """The name of the key that was presented, None where there is none. Every key is compared, whatever is found."""
    digest = hashlib.sha256(presented[:MAX_KEY_LENGTH].encode(errors="replace")).digest()
    owner = None
    for name, known in keys.items():
        if hmac.compare_digest(known, digest):
            owner = name
    return owner


class KeyFile:
    """The keys in a file, as it is now. A change that cannot be read keeps the keys as they were and is logged."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the file; raises KeyFileError."""
        self._path = path
        self._clock = clock
        self._seen = self._fingerprint()
        self._keys = self._read()
        self._checked_at = clock()

    def owner(self, presented: str) -> str | None:
        """The name of the key that was presented, None when there is no such key."""
        self._refresh()
        return find_owner(self._keys, presented)

    def __len__(self) -> int:
        return len(self._keys)

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._checked_at < CHECK_EVERY_S:
            return
        self._checked_at = now
        try:
            seen = self._fingerprint()
            if seen != self._seen:
                self._seen = seen
                self._keys = self._read()
                logger.info("API keys read again", extra={"keys": len(self._keys)})
        except KeyFileError as error:
            logger.error(
                "the changed file of API keys cannot be used, the keys stay as they were", extra={"why": str(error)}
            )

    def _fingerprint(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise KeyFileError(f"{self._path}: {error.strerror}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> dict[str, bytes]:
        try:
            return parse_keys(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"{self._path}: {error}") from error
        except KeyFileError as error:
            raise KeyFileError(f"{self._path}: {error}") from error
