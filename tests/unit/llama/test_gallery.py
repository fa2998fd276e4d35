from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import pytest
from trenza_llama.device import DecodeError, PictureLayout, PicturePart
from trenza_llama.engine import Picture
from trenza_llama.gallery import Gallery

PARTS = 3
PART_BYTES = 100


@dataclass
class Part:
    seed: int
    number: int
    size_bytes: int = PART_BYTES


class CountingProjector:
    """Encodes pictures in three parts, and knows which encodings are still open; picture 13 fails in the second part."""

    def __init__(self) -> None:
        self.encoded: list[tuple[int, int]] = []
        self.open = 0

    def layout(self, picture: Picture) -> PictureLayout:
        return (PicturePart(4, 4, False),) * PARTS

    def encode(self, picture: Picture) -> Generator[Part, None, None]:
        seed = picture.width
        self.open += 1
        try:
            for number in range(PARTS):
                if (seed, number) == (13, 1):
                    raise DecodeError("unlucky")
                self.encoded.append((seed, number))
                yield Part(seed, number)
        finally:
            self.open -= 1


def picture(seed: int) -> Picture:
    return Picture.of(seed, 1, bytes(3 * seed))


@pytest.fixture
def projector() -> CountingProjector:
    return CountingProjector()


def encode(gallery: Gallery, seed: int) -> list[int]:
    for _ in range(PARTS - 1):
        assert gallery.advance(picture(seed), PARTS) is None
    parts = gallery.advance(picture(seed), PARTS)
    assert parts is not None
    return [part.number for part in parts if isinstance(part, Part) and part.seed == seed]


def test_a_picture_is_encoded_part_by_part_and_kept(projector: CountingProjector) -> None:
    gallery = Gallery(projector, 10_000)
    assert gallery.find(picture(1).key) is None
    assert encode(gallery, 1) == [0, 1, 2]
    assert gallery.find(picture(1).key) is not None
    assert projector.open == 0
    assert gallery.kept_bytes == PARTS * PART_BYTES


def test_the_latest_used_are_kept(projector: CountingProjector) -> None:
    gallery = Gallery(projector, 2 * PARTS * PART_BYTES + 1)
    for seed in (1, 2):
        encode(gallery, seed)
    gallery.find(picture(1).key)
    encode(gallery, 3)
    assert [gallery.find(picture(seed).key) is not None for seed in (1, 2, 3)] == [True, False, True]
    assert gallery.kept_bytes == 2 * PARTS * PART_BYTES


def test_one_that_is_too_large_is_returned_but_not_kept(projector: CountingProjector) -> None:
    gallery = Gallery(projector, PART_BYTES)
    assert encode(gallery, 1) == [0, 1, 2]
    assert gallery.find(picture(1).key) is None
    assert gallery.kept_bytes == 0


def test_what_nobody_wants_is_given_up(projector: CountingProjector) -> None:
    gallery = Gallery(projector, 10_000)
    for seed in (1, 2):
        gallery.advance(picture(seed), PARTS)
    gallery.forget_begun({picture(2).key})
    assert projector.open == 1
    assert gallery.advance(picture(2), PARTS) is None
    assert projector.encoded == [(1, 0), (2, 0), (2, 1)]


def test_a_failure_is_told_and_forgotten(projector: CountingProjector) -> None:
    gallery = Gallery(projector, 10_000)
    gallery.advance(picture(13), PARTS)
    with pytest.raises(DecodeError):
        gallery.advance(picture(13), PARTS)
    assert projector.open == 0
    assert gallery.advance(picture(13), PARTS) is None  # begun again


def test_clearing_forgets_everything(projector: CountingProjector) -> None:
    gallery = Gallery(projector, 10_000)
    encode(gallery, 1)
    gallery.advance(picture(2), PARTS)
    gallery.clear()
    assert projector.open == gallery.kept_bytes == 0
    assert gallery.find(picture(1).key) is None
