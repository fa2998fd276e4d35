"""Reads the metadata at the head of a GGUF file, so that files which would end the process are known beforehand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_MAX_ENTRIES = 65_536
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


class GgufError(ValueError):
    """The file is no GGUF file that could be used; the message says why."""


def read_metadata(data: bytes | memoryview) -> Mapping[str, Any]:
    """The metadata of a GGUF file by key: numbers, strings (as bytes), and sequences of them. Raises GgufError."""
    head = memoryview(data)
    if bytes(head[:4]) != MAGIC:
        raise GgufError("it is not a GGUF file")
    try:
        reader = _Reader(head)
        if reader.number(_U32) not in VERSIONS:
            raise GgufError("it is a GGUF file of an unknown version")
        reader.number(_U64)  # how many tensors there are
        entries = reader.number(_U64)
        if entries > _MAX_ENTRIES:
            raise GgufError(f"it claims to have {entries} metadata entries")
        return {reader.text().decode(errors="replace"): reader.value(reader.number(_U32)) for _ in range(entries)}
    except struct.error as error:
        raise GgufError("it ends within its metadata: it is incomplete or corrupt") from error


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
