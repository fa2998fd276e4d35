"""Reads the head of a GGUF file, so that files which would end the process are known beforehand."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_MAX_ENTRIES = 65_536
_MAX_TENSORS = 1_048_576
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _NUMBERS[4], _NUMBERS[10]

_BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    28: (1, 8),
    30: (1, 2),
}
"""How many numbers of a tensor share how many bytes, by the number of its type; those of rare types are not known."""


class GgufError(ValueError):
    """The file is no GGUF file that could be used; the message says why."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's shape, fastest dimension first, and where its numbers are, in bytes after the head's end.

    `size_bytes` is None for a tensor of a type that is not known here.
    """

    shape: tuple[int, ...]
    offset: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class GgufHead:
    """All that a GGUF file says before its tensors' numbers, which begin at `data_start`; `kinds` are the values' types."""

    metadata: Mapping[str, Any]
    kinds: Mapping[str, int]
    tensors: Mapping[str, TensorInfo]
    data_start: int

    @property
    def end(self) -> int:
        """How long the file is at least, in bytes."""
        ends = (tensor.offset + (tensor.size_bytes or 0) for tensor in self.tensors.values())
        return self.data_start + max(ends, default=0)


def read_metadata(data: bytes | memoryview) -> Mapping[str, Any]:
    """The metadata of a GGUF file by key: numbers, strings (as bytes), and sequences of them. Raises GgufError."""
    return _read(data)[0]


def read_head(data: bytes | memoryview) -> GgufHead:
    """The whole head of a GGUF file. Raises GgufError."""
    metadata, kinds, tensor_count, reader = _read(data)
    if tensor_count > _MAX_TENSORS:
        raise GgufError(f"it claims to have {tensor_count} tensors")
    try:
        tensors = {reader.text().decode(errors="replace"): reader.tensor() for _ in range(tensor_count)}
    except struct.error as error:
        raise GgufError("it ends within its list of tensors: it is incomplete or corrupt") from error
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise GgufError("its alignment is no size")
    return GgufHead(metadata, kinds, tensors, math.ceil(reader.position / alignment) * alignment)


def _read(data: bytes | memoryview) -> tuple[dict[str, Any], dict[str, int], int, _Reader]:
    """The metadata, its kinds, how many tensors there are, and the reader at the first of them."""
    head = memoryview(data)
    if bytes(head[:4]) != MAGIC:
        raise GgufError("it is not a GGUF file")
    metadata: dict[str, Any] = {}
    kinds: dict[str, int] = {}
    try:
        reader = _Reader(head)
        if reader.number(_U32) not in VERSIONS:
            raise GgufError("it is a GGUF file of an unknown version")
        tensor_count = reader.number(_U64)
        entries = reader.number(_U64)
        if entries > _MAX_ENTRIES:
            raise GgufError(f"it claims to have {entries} metadata entries")
        for _ in range(entries):
            key = reader.text().decode(errors="replace")
            kinds[key] = reader.number(_U32)
            metadata[key] = reader.value(kinds[key])
    except struct.error as error:
        raise GgufError("it ends within its metadata: it is incomplete or corrupt") from error
    return metadata, kinds, tensor_count, reader


def check_vocabulary(metadata: Mapping[str, Any]) -> None:
    """Raises GgufError for a vocabulary on which llama.cpp would end the process: one that has a token twice."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Sequence) and len(set(tokens)) != len(tokens):
        raise GgufError("its vocabulary has a token twice")


class _Reader:
    """Walks over the head of a file. Raises struct.error where it ends too early."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 4

    @property
    def position(self) -> int:
        """How far it has read."""
        return self._position

    def number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self._data, self._position)
        self._position += form.size
        return value

    def text(self) -> bytes:
        length = self.number(_U64)
        return bytes(self._take(length))

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        raise GgufError(f"its metadata has a value of the unknown kind {kind}")

    def tensor(self) -> TensorInfo:
        dimensions = self.number(_U32)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise GgufError(f"it has a tensor of {dimensions} dimensions")
        shape = tuple(self.number(_U64) for _ in range(dimensions))
        numbers, size_bytes = _BLOCKS.get(self.number(_U32), (None, 0))
        offset = self.number(_U64)
        return TensorInfo(shape, offset, None if numbers is None else math.prod(shape) // numbers * size_bytes)

    def _array(self) -> Sequence[Any]:
        kind, length = self.number(_U32), self.number(_U64)
        if kind in _NUMBERS:
            form = _NUMBERS[kind]
            return struct.unpack(f"<{length}{form.format[-1]}", self._take(length * form.size))
        if kind != _STRING:
            raise GgufError(f"its metadata has a list of the unknown kind {kind}")
        if length > len(self._data):
            raise struct.error("a list longer than the file")
        return [self.text() for _ in range(length)]

    def _take(self, length: int) -> memoryview:
        taken = self._data[self._position : self._position + length]
        if len(taken) != length:
            raise struct.error("more than there is")
        self._position += length
        return taken
