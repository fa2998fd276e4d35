"""A picture in encoded form, cut into pieces that fit into messages, and what is wrong with one that cannot be had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2

PIECE_BYTES = 2**20
"""The most of a picture that one message carries."""


class BadPicture(ValueError):
    """A picture that cannot be had; the message is a sentence for people, `code` is OpenAI's word for the error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class TooLarge(BadPicture):
    """A picture with more bytes than it may have."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The picture must be at most {limit_bytes} bytes.", "image_too_large")


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """The bytes of a picture file in pieces of at most `PIECE_BYTES`; nobody has looked into them yet.

    `media_type` is what the client claims, empty where it claims nothing; `digest` tells two different files apart.
    """

    pieces: Sequence[bytes]
    media_type: str
    digest: bytes

    @classmethod
    def of(cls, pieces: Iterable[bytes], media_type: str = "") -> EncodedPicture:
        """The picture that consists of these pieces."""
        kept = tuple(pieces)
        running = blake2b(digest_size=16)
        for piece in kept:
            running.update(piece)
        return cls(kept, media_type, running.digest())

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return sum(len(piece) for piece in self.pieces)

    def chunks(self, index: int) -> Iterator[vision_pb2.ImageChunk]:
        """The messages in which it travels as picture number `index` of an upload."""
        media = common_pb2.MediaDescription(media_type=self.media_type, size_bytes=self.size_bytes)
        for position, piece in enumerate(self.pieces):
            yield vision_pb2.ImageChunk(index=index, media=None if position else media, data=piece)
