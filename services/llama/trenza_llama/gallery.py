"""Pictures as the model takes them: encoded part by part, and kept for the next request that shows them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from trenza_llama.device import EncodedPart, Projector
from trenza_llama.engine import Picture

EncodedPicture: TypeAlias = Sequence[EncodedPart]


@dataclass(slots=True)
class _Begun:
    """A picture of which some parts are encoded."""

    rest: Generator[EncodedPart, None, None]
    parts: list[EncodedPart] = field(default_factory=list)


class Gallery:
    """Encodes pictures, and keeps the latest used ones as long as all of them together take `capacity_bytes` at most.

    A picture that is not kept any more lives on with those who found it before.
    """

    def __init__(self, projector: Projector, capacity_bytes: int) -> None:
        self._projector = projector
        self._capacity_bytes = capacity_bytes
        self._kept: OrderedDict[str, EncodedPicture] = OrderedDict()
        self._kept_bytes = 0
        self._begun: dict[str, _Begun] = {}

    @property
    def kept_bytes(self) -> int:
        """The memory that the kept pictures take."""
        return self._kept_bytes

    def find(self, key: str) -> EncodedPicture | None:
        """The picture, if it is kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def advance(self, picture: Picture, part_count: int) -> EncodedPicture | None:
        """Encodes the next of a picture's parts; returns the picture with the last one.

        Raises as `Projector.encode` does; the picture has to be begun again then.
        """
        begun = self._begun.get(picture.key)
        if begun is None:
            begun = self._begun[picture.key] = _Begun(self._projector.encode(picture))
        try:
            begun.parts.append(next(begun.rest))
        except BaseException:
            del self._begun[picture.key]
            raise
        if len(begun.parts) < part_count:
            return None
        self._begun.pop(picture.key).rest.close()
        self._keep(picture.key, begun.parts)
        return begun.parts

    def forget_begun(self, wanted: Collection[str]) -> None:
        """Gives up the pictures that were begun and that nobody wants any more."""
        for key in [key for key in self._begun if key not in wanted]:
            self._begun.pop(key).rest.close()

    def clear(self) -> None:
        """Forgets everything."""
        self.forget_begun(())
        self._kept.clear()
        self._kept_bytes = 0

    def _keep(self, key: str, parts: EncodedPicture) -> None:
        self._kept[key] = parts
        self._kept_bytes += _size_bytes(parts)
        while self._kept_bytes > self._capacity_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= _size_bytes(oldest)


def _size_bytes(parts: EncodedPicture) -> int:
    return sum(part.size_bytes for part in parts)
