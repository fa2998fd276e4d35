"""Keeps an upload in a file while it is heard: it arrives in pieces, and some formats can only be read from their end."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path

from grpc import StatusCode
from trenza_runtime.errors import Reason, RpcFault

from trenza_audio.hearing.translate import MAX_CHUNK_BYTES, invalid

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@asynccontextmanager
async def spooled(chunks: AsyncIterator[bytes], limit_bytes: int, folder: Path | None) -> AsyncIterator[Path]:
    """Gives the upload as a file, which is gone after the block, and where there is /proc even if this process is killed.

    Raises RpcFault: INVALID_ARGUMENT for an upload that is empty or larger than `limit_bytes`, or a piece that is too
    large; RESOURCE_EXHAUSTED/NO_CAPACITY when the disk is full.
    """
    try:
        # Not in a thread: nobody would own the file if this were cancelled meanwhile.
        descriptor, name = tempfile.mkstemp(prefix="trenza-audio-", suffix=".upload", dir=folder)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                path = _nameless(descriptor, name)
                await _fill(file, chunks, limit_bytes)
                yield path
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        message = "There is no room for the upload now."
        raise RpcFault(StatusCode.RESOURCE_EXHAUSTED, Reason.NO_CAPACITY, message, retry_after_s=5.0) from error


async def _fill(file: FileIO, chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
    size_bytes = 0
    async for chunk in chunks:
        if len(chunk) > MAX_CHUNK_BYTES:
            raise invalid("file", f"A piece of an upload has at most {MAX_CHUNK_BYTES} bytes.")
        size_bytes += len(chunk)
        check_size(size_bytes, limit_bytes)
        writing = asyncio.ensure_future(asyncio.to_thread(_write_whole, file, chunk))
        try:
            await asyncio.shield(writing)
        finally:
            await asyncio.wait({writing})  # the thread must not write to what is closed
    if not size_bytes:
        raise invalid("file", "The file is empty.", Reason.INVALID_AUDIO)


def _write_whole(file: FileIO, chunk: bytes) -> None:
    """Writes all of it: a disk that is about to be full takes a part without an error, and refuses what is left."""
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]


def _nameless(descriptor: int, name: str) -> Path:
    """Takes a file's name away, so that nothing has to clean up behind a dead process; returns how others open it."""
    path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    if not path.exists():
        return Path(name)
    os.unlink(name)
    return path


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Raises RpcFault (INVALID_ARGUMENT/FILE_TOO_LARGE) for an upload beyond the limit."""
    if size_bytes > limit_bytes:
        raise invalid("file", f"The file is larger than {limit_bytes} bytes.", Reason.FILE_TOO_LARGE)
