"""Forms as they are read: what is in memory, what is on disk, what is counted, what is left when the request has ended."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from trenza_gateway.limits import ClientGone
from trenza_gateway.openai.errors import ApiError
from trenza_gateway.uploads import (
    CHUNK_BYTES,
    FRAMING_BYTES,
    MAX_FIELDS_BYTES,
    MEMORY_BYTES,
    Form,
    FormFile,
    UploadLimits,
    Uploads,
)

MIB = 2**20
TYPE = "multipart/form-data; boundary=edge"


def part(name: str, content: bytes, file_name: str | None = None, kind: str = "audio/wav") -> bytes:
    """One part of a form."""
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"'
    if file_name is not None:
        head += f'; filename="{file_name}"\r\nContent-Type: {kind}'
    return f"{head}\r\n\r\n".encode() + content + b"\r\n"


END = b"--edge--\r\n"


def request_of(
    pieces: Sequence[bytes | float], content_type: str = TYPE, declared: int | None = None, leaves: bool = False
) -> Request:
    """A request whose body arrives in these pieces; a number is a pause in seconds. `leaves`: the client goes before the end."""
    arriving = iter(pieces)

    async def receive() -> dict[str, Any]:
        for piece in arriving:
            if isinstance(piece, bytes):
                return {"type": "http.request", "body": piece, "more_body": True}
            await asyncio.sleep(piece)
        return {"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    if declared is not None:
        headers.append((b"content-length", str(declared).encode()))
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def uploads(all_forms_bytes: int = 64 * MIB, read_s: float = 10.0) -> Uploads:
    return Uploads(UploadLimits(all_forms_bytes, read_s))


async def content_of(file: FormFile) -> bytes:
    return b"".join([chunk async for chunk in file.chunks()])


async def error_of(reading: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await reading
    return caught.value


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_fields_and_files_in_their_order() -> None:
    pieces = [
        part("model", b"m"),
        part("file", b"one", "C:\\music\\a.wav"),
        part("list[]", b"x"),
        part("list[]", "ñ".encode()),
        part("file", b"", "", "image/png"),
        END,
    ]
    form = await uploads().read(request_of([b"".join(pieces)]), MIB)
    assert form.fields == {"model": ["m"], "list[]": ["x", "ñ"]}
    first, second = form.files["file"]
    assert (first.name, first.media_type, first.size_bytes) == ("a.wav", "audio/wav", 3)
    assert (second.name, second.media_type, second.size_bytes) == ("", "image/png", 0)
    assert await content_of(first) == b"one"
    assert await content_of(second) == b""


@pytest.mark.parametrize("size_bytes", [1, MEMORY_BYTES, MEMORY_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES * 3 + 1])
async def test_a_file_can_be_read_several_times_in_chunks(size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    body = part("file", content, "a.wav") + END
    pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    [file] = (await uploads().read(request_of(pieces), 4 * MIB)).files["file"]
    assert file.size_bytes == size_bytes
    first = file.chunks()
    beginning = await anext(first)
    assert await content_of(file) == content
    rest = [chunk async for chunk in first]
    assert b"".join([beginning, *rest]) == content
    assert max(map(len, [beginning, *rest])) <= CHUNK_BYTES


async def test_files_are_gone_when_the_request_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reader, before = uploads(), open_files()
    request = request_of([part("file", bytes(MIB), "a.wav") + part("file", bytes(MIB), "b.wav") + END])
    form = await reader.read(request, 4 * MIB)
    for file in form.files["file"]:
        await content_of(file)
    assert os.listdir(tmp_path) == []
    assert open_files() == before + 2
    reader.forget(request.scope)
    reader.forget(request.scope)
    assert open_files() == before


async def test_a_small_file_needs_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    small = bytes(range(256)) * (MEMORY_BYTES // 256)
    [file] = (await uploads().read(request_of([part("file", small, "a.wav") + END]), MIB)).files["file"]
    assert await content_of(file) == small
    with pytest.raises(ApiError) as raised:
        await uploads().read(request_of([part("file", small + b"x", "a.wav") + END]), MIB)
    assert raised.value.status == 503


async def test_what_fails_leaves_no_file_behind() -> None:
    reader, before = uploads(all_forms_bytes=4 * MIB, read_s=0.2), open_files()
    file = part("file", bytes(MIB), "a.wav")
    failing = [
        (request_of([file, b"--edge\r\nno form"]), 400),
        (request_of([file, part("file", bytes(MIB), "b.wav"), END]), 413),
        (request_of([file] * 5), 413),
        (request_of([file, 1.0, END]), 408),
    ]
    for request, status in failing:
        assert (await error_of(reader.read(request, MIB + MIB // 2))).status == status
        reader.forget(request.scope)
    gone = request_of([file], leaves=True)
    with pytest.raises(ClientGone):
        await reader.read(gone, MIB)
    reader.forget(gone.scope)
    assert open_files() == before
    assert (await reader.read(request_of([file, END]), 4 * MIB)).files


async def test_limits_of_one_upload() -> None:
    error = await error_of(uploads().read(request_of([], declared=FRAMING_BYTES + 101), 100, "file"))
    assert (error.status, error.param, error.code) == (413, "file", "upload_too_large")
    assert "100 bytes" in error.message
    body = part("file", bytes(100), "a.wav") + END
    assert (await uploads().read(request_of([body], declared=len(body)), 100)).files
    body = part("file", bytes(60), "a.wav") + part("other", bytes(60), "b.wav") + END
    assert (await error_of(uploads().read(request_of([body]), 100, "file"))).status == 413
    wrong = request_of([body], declared=5)
    wrong.scope["headers"][1] = (b"content-length", b"many")
    assert (await error_of(uploads().read(Request(wrong.scope), 100))).status == 400


async def test_an_upload_that_is_too_large_is_not_read_to_its_end() -> None:
    read = 0

    def endless() -> Any:
        nonlocal read
        yield part("file", b"", "a.wav").removesuffix(b"\r\n")
        while True:
            read += 65_536
            yield bytes(65_536)

    error = await error_of(uploads().read(request_of(endless()), MIB))
    assert error.status == 413
    assert read <= MIB + FRAMING_BYTES + 2 * 65_536


async def test_fields_are_bounded_together() -> None:
    largest = part("f", b"x" * MAX_FIELDS_BYTES)
    assert (await uploads().read(request_of([largest, END]), MIB)).fields
    many = [part(f"f{number}", b"x" * (MAX_FIELDS_BYTES // 100)) for number in range(101)]
    for pieces in ([part("f", b"x" * (MAX_FIELDS_BYTES + 1)), END], [*many, END]):
        error = await error_of(uploads().read(request_of(pieces), 64 * MIB, "file"))
        assert (error.status, error.param) == (400, "file")


async def test_all_uploads_together_are_counted_until_they_end() -> None:
    reader = uploads(all_forms_bytes=3 * MIB)
    body = part("file", bytes(MIB), "a.wav") + END
    held = [request_of([body]) for _ in range(2)]
    for request in held:
        await reader.read(request, 2 * MIB)
    error = await error_of(reader.read(third := request_of([body]), 2 * MIB))
    assert (error.status, error.retry_after_s) == (503, 1)
    reader.forget(third.scope)
    reader.forget(held[0].scope)
    assert (await reader.read(request_of([body]), 2 * MIB)).files


async def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, before = uploads(), open_files()

    async def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    request = request_of([part("file", bytes(MIB), "a.wav") + END])
    error = await error_of(reader.read(request, 4 * MIB))
    assert (error.status, error.code) == (503, "overloaded")
    reader.forget(request.scope)
    assert open_files() == before


@pytest.mark.parametrize(
    "kind", ["", "application/json", "text/plain; boundary=edge", "multipart/mixed; boundary=edge"]
)
async def test_other_kinds_of_body(kind: str) -> None:
    error = await error_of(uploads().read(request_of([END], kind), MIB, "image"))
    assert (error.status, error.param) == (400, "image")


async def test_many_large_uploads_do_not_take_memory() -> None:
    size_bytes, count = 8 * MIB, 24
    reader = uploads(all_forms_bytes=1024 * MIB)

    def pieces() -> Any:
        yield part("file", b"", "a.wav").removesuffix(b"\r\n")
        for _ in range(size_bytes // 65_536):
            yield bytes(65_536)
        yield b"\r\n" + END

    async def read_through(request: Request) -> Form:
        form = await reader.read(request, 2 * size_bytes)
        read_bytes = 0
        async for chunk in form.files["file"][0].chunks():
            read_bytes += len(chunk)
        assert read_bytes == size_bytes
        return form

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    requests = [request_of(pieces()) for _ in range(count)]
    forms = await asyncio.gather(*(read_through(request) for request in requests))
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert len(forms) == count
    assert grown_bytes < count * size_bytes / 3
    for request in requests:
        reader.forget(request.scope)


async def test_reading_goes_on_after_a_reader_was_cancelled() -> None:
    content = os.urandom(2 * MIB)
    [file] = (await uploads().read(request_of([part("file", content, "a.wav") + END]), 4 * MIB)).files["file"]

    async def read(chunks: AsyncIterator[bytes]) -> bytes:
        return b"".join([chunk async for chunk in chunks])

    first = asyncio.ensure_future(read(file.chunks()))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert await read(file.chunks()) == content
