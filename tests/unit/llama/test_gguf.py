from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from tiny_llama import TEMPLATE
from trenza_llama.core.gguf import GgufError, TensorInfo, check_vocabulary, read_head, read_metadata


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str) -> bytes:
    return u64(len(value.encode())) + value.encode()


def file(*entries: bytes, version: int = 3, count: int | None = None) -> bytes:
    return b"GGUF" + u32(version) + u64(0) + u64(len(entries) if count is None else count) + b"".join(entries)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(u32(0) + b"\xff", 255, id="u8"),
        pytest.param(u32(5) + b"\xff\xff\xff\xff", -1, id="i32"),
        pytest.param(u32(6) + struct.pack("<f", 0.5), 0.5, id="f32"),
        pytest.param(u32(7) + b"\1", True, id="bool"),
        pytest.param(u32(8) + text("ñ"), "ñ".encode(), id="string"),
        pytest.param(u32(10) + u64(2**40), 2**40, id="u64"),
        pytest.param(u32(12) + struct.pack("<d", 0.25), 0.25, id="f64"),
        pytest.param(u32(9) + u32(4) + u64(2) + u32(7) + u32(8), (7, 8), id="list of numbers"),
        pytest.param(u32(9) + u32(8) + u64(2) + text("a") + text(""), [b"a", b""], id="list of strings"),
    ],
)
def test_values(value: bytes, expected: Any) -> None:
    data = file(text("before") + u32(0) + b"\1", text("key") + value, text("after") + u32(0) + b"\2") + b"tensors"
    assert read_metadata(data) == {"before": 1, "key": expected, "after": 2}


def test_a_real_file(model_path: Path) -> None:
    metadata = read_metadata(model_path.read_bytes())
    assert metadata["general.architecture"] == b"llama"
    assert metadata["tokenizer.chat_template"] == TEMPLATE.encode()
    assert len(metadata["tokenizer.ggml.tokens"]) == 269
    check_vocabulary(metadata)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GGML" + b"\0" * 100, id="another format"),
        pytest.param(file(version=1), id="old version"),
        pytest.param(file(count=1), id="ends before an entry"),
        pytest.param(file(count=2**40), id="too many entries"),
        pytest.param(file(text("k") + u32(99)), id="unknown kind"),
        pytest.param(file(text("k") + u32(9) + u32(9) + u64(1)), id="list of lists"),
        pytest.param(file(text("k") + u32(8) + u64(2**63)), id="endless string"),
        pytest.param(file(text("k") + u32(9) + u32(8) + u64(2**63)), id="endless list of strings"),
        pytest.param(file(text("k") + u32(9) + u32(4) + u64(2**63)), id="endless list of numbers"),
    ],
)
def test_broken_files(data: bytes) -> None:
    with pytest.raises(GgufError):
        read_metadata(data)


def test_every_truncation_is_noticed(model_path: Path) -> None:
    whole = model_path.read_bytes()
    head = whole[: whole.index(b"token_embd.weight") - 8]  # the tensors follow
    assert read_metadata(head)
    for length in range(0, len(head), 7):
        with pytest.raises(GgufError):
            read_metadata(head[:length])


@pytest.mark.parametrize(("tokens", "valid"), [([b"a", b"b"], True), ([b"a", b"a"], False), ([], True), (7, True)])
def test_vocabularies(tokens: Any, valid: bool) -> None:
    if valid:
        check_vocabulary({"tokenizer.ggml.tokens": tokens})
    else:
        with pytest.raises(GgufError, match="twice"):
            check_vocabulary({"tokenizer.ggml.tokens": tokens})


def tensor(name: str, *shape: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


def file_with_tensors(*tensors: bytes, alignment: int = 64) -> bytes:
    entry = text("general.alignment") + u32(4) + u32(alignment)
    return b"GGUF" + u32(3) + u64(len(tensors)) + u64(1) + entry + b"".join(tensors)


def test_the_head_tells_where_tensors_are() -> None:
    data = file_with_tensors(tensor("a", 8, 2), tensor("b", 64, kind=8, offset=64), tensor("c", 3, kind=99, offset=999))
    head = read_head(data)
    assert head.metadata == {"general.alignment": 64}
    assert head.kinds == {"general.alignment": 4}
    assert head.tensors["a"] == TensorInfo((8, 2), 0, 64)
    assert head.tensors["b"] == TensorInfo((64,), 64, 68)
    assert head.tensors["c"] == TensorInfo((3,), 999, None)
    assert head.data_start % 64 == 0
    assert 0 <= head.data_start - len(data) < 64
    assert head.end == head.data_start + 999


def test_the_head_of_a_real_file_ends_where_the_file_does(model_path: Path) -> None:
    data = model_path.read_bytes()
    head = read_head(data)
    assert head.metadata == read_metadata(data)
    assert 0 <= len(data) - head.end < 32


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file_with_tensors(tensor("a", 8))[:-1], id="ends within a tensor"),
        pytest.param(b"GGUF" + u32(3) + u64(2**40) + u64(0), id="too many tensors"),
        pytest.param(file_with_tensors(text("a") + u32(5)), id="five dimensions"),
        pytest.param(file_with_tensors(text("a") + u32(0)), id="no dimension"),
        pytest.param(file_with_tensors(alignment=0), id="no alignment"),
    ],
)
def test_broken_heads(data: bytes) -> None:
    with pytest.raises(GgufError):
        read_head(data)
