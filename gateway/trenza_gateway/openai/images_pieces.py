"""JSON with pictures inside, as pieces of bytes: encoded as the bytes arrive, so that nothing large is done at once."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from trenza_gateway.openai.encoding import json_bytes


class Raw:
    """A picture's bytes as they are."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Takes the next bytes."""
        self._pieces.append(data)

    def end(self) -> Sequence[bytes]:
        """The picture."""
        return self._pieces


class Base64:
    """A picture's bytes in base64, whose groups of three do not mind where the pieces were cut."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Takes the next bytes."""
        data = self._rest + data
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        self._pieces.append(b64encode(data[:whole]))

    def end(self) -> Sequence[bytes]:
        """The text."""
        return [*self._pieces, b64encode(self._rest)]


def with_picture(base64: Sequence[bytes], fields: Mapping[str, Any]) -> list[bytes]:
    """A JSON object of `b64_json` and further fields, of which there must be at least one."""
    return [b'{"b64_json":"', *base64, b'",', json_bytes(fields)[1:]]


def with_data(items: Sequence[Sequence[bytes]], fields: Mapping[str, Any]) -> list[bytes]:
    """A JSON object of the list `data` and further fields, of which there must be at least one."""
    pieces = [b'{"data":[']
    for number, item in enumerate(items):
        if number:
            pieces.append(b",")
        pieces.extend(item)
    return [*pieces, b"],", json_bytes(fields)[1:]]
