"""The interface of the stores behind `response_format: url`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class MediaError(Exception):
    """The store cannot take or give a picture now; the message, for whoever asked, says why."""


class Content(Protocol):
    """Bytes to read from the beginning. Both methods may block; they are for threads."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Media:
    """A stored picture. Whoever has it closes its content."""

    media_type: str
    size_bytes: int
    expires_unix_s: int
    content: Content


class MediaStore(Protocol):
    """Keeps pictures until they expire. No method blocks the event loop."""

    async def start(self) -> None:
        """Gets ready. Raises StartError, with one line that says what to do, where the store cannot be used."""

    async def put(self, content: Sequence[bytes], media_type: str) -> str:
        """Keeps a picture, given in pieces; returns the token that names it. Raises MediaError."""

    async def get(self, token: str) -> Media | None:
        """The picture; None where there is none or it has expired. Raises MediaError."""

    async def sweep(self) -> int:
        """Deletes what has expired; returns how many pictures that were. Raises MediaError."""

    async def close(self) -> None:
        """Lets go of connections and threads."""
