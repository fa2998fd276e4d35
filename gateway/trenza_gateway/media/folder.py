"""Pictures in a folder of this machine: one file each, deleted when its time is over, also after a restart or a crash."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from trenza_runtime.lifecycle import StartError

from trenza_gateway.media.store import Media, MediaError
from trenza_gateway.media.tokens import Token, new_token, read_token

logger = logging.getLogger(__name__)

_UNFINISHED = ".part"


class FolderStore:
    """A `MediaStore`. Several gateways of one machine may share a folder; the limit then holds for all of them, roughly.

    `clock` tells seconds since the Unix epoch.
    """

    def __init__(self, folder: Path, limit_bytes: int, lifetime_s: float, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._used_bytes = 0
        self._lately_bytes = 0
        """Of that, what a sweep under way may not have seen."""
        self._writing_bytes = 0

    async def start(self) -> None:
        """Makes the folder and deletes what expired while nobody ran. Raises StartError."""
        try:
            await asyncio.to_thread(_prepare, self._folder)
            await self.sweep()
        except (OSError, MediaError) as error:
            raise StartError(
                f"pictures cannot be kept in {self._folder} ({error}); set TRENZA_GATEWAY_MEDIA_FOLDER to a folder of your own"
            ) from error

    async def put(self, content: Sequence[bytes], media_type: str) -> str:
        """Keeps a picture; see `MediaStore`."""
        size_bytes = sum(map(len, content))
        if self._used_bytes + size_bytes > self._limit_bytes:
            await self.sweep()
        if self._used_bytes + size_bytes > self._limit_bytes:
            raise MediaError(
                "There is no room for pictures now: ask for the response_format b64_json, or try again later."
            )
        self._count(size_bytes)
        self._writing_bytes += size_bytes
        token = new_token(self._clock() + self._lifetime_s, media_type)
        try:
            await asyncio.to_thread(self._write, token, content)
        except OSError as error:
            self._count(-size_bytes)
            logger.error("a picture cannot be kept", extra={"why": str(error)})
            raise MediaError("The picture cannot be kept here now.") from error
        finally:
            self._writing_bytes -= size_bytes
        return token.text

    async def get(self, token: str) -> Media | None:
        """Opens a picture; see `MediaStore`."""
        found = read_token(token)
        if found is None or found.expires_unix_s <= self._clock():
            return None
        try:
            return await asyncio.to_thread(self._open, found)
        except OSError as error:
            logger.error("a picture cannot be read", extra={"why": str(error)})
            raise MediaError("The picture cannot be read now.") from error

    async def sweep(self) -> int:
        """Deletes what has expired, and counts what is left; see `MediaStore`."""
        self._lately_bytes = self._writing_bytes
        try:
            deleted, kept_bytes = await asyncio.to_thread(self._sweep, self._clock())
        except OSError as error:
            raise MediaError(f"The folder of pictures cannot be swept: {error}.") from error
        self._used_bytes = kept_bytes + self._lately_bytes
        return deleted

    async def close(self) -> None:
        """Nothing is open between calls."""

    def _count(self, size_bytes: int) -> None:
        self._used_bytes += size_bytes
        self._lately_bytes += size_bytes

    def _write(self, token: Token, content: Sequence[bytes]) -> None:
        """Gives the file its name when it is complete, so that nobody reads half of it."""
        unfinished = self._folder / f"{token.text}{_UNFINISHED}"
        try:
            with open(unfinished, "xb", opener=_private) as file:
                file.writelines(content)
            unfinished.rename(self._folder / token.text)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def _open(self, token: Token) -> Media | None:
        try:
            content = open(self._folder / token.text, "rb", buffering=0)  # noqa: SIM115 - its reader closes it
        except FileNotFoundError:
            return None
        return Media(token.media_type, os.fstat(content.fileno()).st_size, token.expires_unix_s, content)

    def _sweep(self, now_unix_s: float) -> tuple[int, int]:
        deleted = kept_bytes = 0
        for path, token in self._files():
            try:
                if token.expires_unix_s <= now_unix_s:
                    path.unlink()
                    deleted += 1
                else:
                    kept_bytes += path.stat().st_size
            except FileNotFoundError:
                continue  # another gateway was faster
        return deleted, kept_bytes

    def _files(self) -> Iterator[tuple[Path, Token]]:
        """Every file that a gateway has put here, unfinished ones included. Others are left alone."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                token = read_token(entry.name.removesuffix(_UNFINISHED))
                if token is not None:
                    yield Path(entry.path), token


def _prepare(folder: Path) -> None:
    """Makes the folder where it is missing. Raises OSError for one that somebody else has put there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid not in (0, os.geteuid()):
        raise OSError("it belongs to another user")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError("it cannot be written to")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
