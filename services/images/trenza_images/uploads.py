"""Collects the pictures of an upload as their pieces arrive, within limits."""

from __future__ import annotations

from dataclasses import dataclass

from trenza.images.v1 import images_pb2 as pb

from trenza_images.translate import CHUNK_BYTES, invalid

MAX_SOURCES = 16
_ROLES = {
    pb.IMAGE_ROLE_UNSPECIFIED: "image",
    pb.IMAGE_ROLE_SOURCE: "image",
    pb.IMAGE_ROLE_MASK: "mask",
}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The files of an upload, not looked at."""

    sources: tuple[bytes, ...]
    mask: bytes | None


class Upload:
    """Takes pieces in; `finish` gives the pictures. Both raise RpcFault INVALID_ARGUMENT naming the field."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._roles: list[str] = []
        self._data: list[bytearray] = []

    def take(self, chunk: pb.UploadChunk) -> None:
        """Adds the next piece."""
        if chunk.index == len(self._data):
            self._begin(chunk)
        elif chunk.index != len(self._data) - 1:
            raise invalid("image", "Pictures must come one after another, numbered from 0.")
        if len(chunk.data) > CHUNK_BYTES:
            raise invalid(self._roles[-1], f"A piece of a picture has at most {CHUNK_BYTES} bytes.")
        self._size_bytes += len(chunk.data)
        if self._size_bytes > self._limit_bytes:
            raise invalid(
                self._roles[-1], f"The pictures of a request have at most {self._limit_bytes} bytes together."
            )
        self._data[-1] += chunk.data

    def _begin(self, chunk: pb.UploadChunk) -> None:
        role = _ROLES.get(chunk.role)
        if role is None:
            raise invalid("image", "There is no such role of a picture.")
        if role == "mask" and "mask" in self._roles:
            raise invalid("mask", "There can be one mask only.")
        if role == "image" and self._roles.count("image") == MAX_SOURCES:
            raise invalid("image", f"At most {MAX_SOURCES} pictures can be given.")
        self._roles.append(role)
        self._data.append(bytearray())

    def finish(self) -> Uploaded:
        """The pictures, at least one of them to be redrawn."""
        files = [(role, bytes(data)) for role, data in zip(self._roles, self._data, strict=True)]
        sources = tuple(data for role, data in files if role == "image")
        if not sources:
            raise invalid("image", "A picture is needed.")
        if any(not data for _, data in files):
            raise invalid("image", "A picture has no bytes.")
        return Uploaded(sources, next((data for role, data in files if role == "mask"), None))
