"""Multipart forms: fields in memory, files in unnamed temporary files, all of it within limits.

A form is taken in whole before its request is dispatched: a field may follow the file (as in OpenAI's own curl examples), and
another replica may have to be tried. Memory stays bounded whatever the size, since a file beyond 64 KiB is on disk, in a
file without a name that is gone when the request ends or the process dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Scope

from trenza_gateway.limits import ClientGone, declared_length, refuse_compression
from trenza_gateway.openai.errors import SERVER, ApiError, bad_request

logger = logging.getLogger(__name__)

CHUNK_BYTES = 512 * 1024
MEMORY_BYTES = 64 * 1024
"""As much of a file is in memory before it goes to disk."""
MAX_FILES = 32
MAX_FIELDS = 256
MAX_FIELDS_BYTES = 1024 * 1024
"""What all fields together may take; they are in memory."""
FRAMING_BYTES = 1024 * 1024
"""What boundaries, part headers and fields may add to the files."""

_HELD = "trenza.held_form"


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """`all_forms_bytes` for all running requests' forms together, `read_s` until one must be complete."""

    all_forms_bytes: int
    read_s: float


class FormFile:
    """A file of a form."""

    def __init__(self, upload: UploadFile) -> None:
        self.name = (upload.filename or "").replace("\\", "/").rpartition("/")[2]
        self.media_type = upload.content_type or ""
        self.size_bytes = upload.size or 0
        self._upload = upload

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content from its beginning. Several readers do not disturb one another."""
        file = self._upload.file
        if self.size_bytes <= MEMORY_BYTES:  # so starlette has not put it on the disk
            file.seek(0)
            if content := file.read():
                yield content
            return
        descriptor, offset = file.fileno(), 0
        while chunk := await asyncio.to_thread(os.pread, descriptor, CHUNK_BYTES, offset):
            offset += len(chunk)
            yield chunk


@dataclass(frozen=True, slots=True)
class Form:
    """A form's fields and files by name, in the order in which they came."""

    fields: Mapping[str, Sequence[str]]
    files: Mapping[str, Sequence[FormFile]]


class Uploads:
    """Reads forms. A form's files live, and count, until its request ends."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._held_bytes = 0

    async def read(self, request: Request, limit_bytes: int, param: str | None = None) -> Form:
        """The form, whose files may have `limit_bytes` together; `param` is the field that errors name.

        Raises ApiError (400 not a form, 413 too large, 408 too slow, 415 compressed, 503 too much at once) or ClientGone.
        """
        bound = _Bound(limit_bytes, param)
        if declared_length(request) > limit_bytes + FRAMING_BYTES:
            raise _too_large(bound)
        refuse_compression(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            raise bad_request("The body must be multipart/form-data.", param=param)
        held = _Held()
        request.scope[_HELD] = held
        try:
            async with asyncio.timeout(self._limits.read_s):
                return await self._parse(request, held, bound)
        except TimeoutError:
            message = f"The body did not arrive within {self._limits.read_s:g} s."
            raise ApiError(408, message, code="body_timeout", param=param) from None

    def forget(self, scope: Scope) -> None:
        """The request has ended; its files are deleted."""
        held: _Held | None = scope.pop(_HELD, None)
        if held is not None:
            self._held_bytes -= held.size_bytes
            for upload in held.files:
                upload.file.close()

    async def _parse(self, request: Request, held: _Held, bound: _Bound) -> Form:
        stream = self._counted(request, held, bound)
        parser = _Parser(
            request.headers, stream, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELDS_BYTES
        )
        try:
            data = await parser.parse()
        except MultiPartException as error:
            raise bad_request(f"The form cannot be read: {error.message}", param=bound.param) from None
        except OSError as error:
            logger.error("an upload cannot be kept", extra={"why": str(error)})
            raise ApiError(
                503, "The upload cannot be kept here now.", kind=SERVER, code="overloaded", retry_after_s=5
            ) from None
        fields: dict[str, list[str]] = {}
        files: dict[str, list[FormFile]] = {}
        for name, value in data.multi_items():
            if isinstance(value, str):
                fields.setdefault(name, []).append(value)
            else:
                held.files.append(value)
                files.setdefault(name, []).append(FormFile(value))
        if sum(file.size_bytes for group in files.values() for file in group) > bound.size_bytes:
            raise _too_large(bound)
        return Form(fields, files)

    async def _counted(self, request: Request, held: _Held, bound: _Bound) -> AsyncGenerator[bytes, None]:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            self._hold(held, len(chunk))
            if held.size_bytes > bound.size_bytes + FRAMING_BYTES:
                raise _too_large(bound)
            yield chunk
            if not message.get("more_body", False):
                return

    def _hold(self, held: _Held, size_bytes: int) -> None:
        held.size_bytes += size_bytes
        self._held_bytes += size_bytes
        if self._held_bytes > self._limits.all_forms_bytes:
            raise ApiError(503, "Too many uploads at once.", kind=SERVER, code="overloaded", retry_after_s=1)


class _Parser(MultiPartParser):
    """Starlette's parser, with little in memory."""

    spool_max_size = MEMORY_BYTES
    _fields_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._fields_bytes += end - start
            if self._fields_bytes > MAX_FIELDS_BYTES:
                raise MultiPartException(f"Its fields may have {MAX_FIELDS_BYTES} bytes together.")
        super().on_part_data(data, start, end)


@dataclass(frozen=True, slots=True)
class _Bound:
    """What the files of a form may have together, and the field that is to blame where they have more."""

    size_bytes: int
    param: str | None


class _Held:
    """What a request's form takes up."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.files: list[UploadFile] = []


def _too_large(bound: _Bound) -> ApiError:
    """What is still to come is read and dropped for a while, so that the client gets to see this."""
    message = f"The upload must be at most {bound.size_bytes} bytes."
    return ApiError(413, message, code="upload_too_large", param=bound.param)
