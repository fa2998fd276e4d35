"""Uploaded files are hostile until they are pictures."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from studio import difference, draw, file_of, one
from trenza_images.engine import Drawn, DrawRequest
from trenza_images.engines import canvas
from trenza_runtime.worker.engine import EngineFailure

LIMIT = 1_000_000


def png_that_claims(width: int, height: int) -> bytes:
    """A small file whose picture would be enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def gif() -> bytes:
    return file_of(Image.new("P", (8, 8)), "GIF")


def noise(size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8))


HOSTILE = {
    "empty": b"",
    "text": b"<svg onload=alert(1)>" * 50,
    "bomb": png_that_claims(30_000, 30_000),
    "large": png_that_claims(2_000, 1_000),
    "no pixels": png_that_claims(0, 10),
    "wrong format": gif(),
    "truncated png": file_of(noise())[:200],
    "truncated jpeg": file_of(noise(), "JPEG")[:300],
    "truncated webp": file_of(noise(), "WEBP")[:100],
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "garbled": file_of(noise())[:60] + b"\xff" * 200,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_picture_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(canvas.PictureError, match=r"^It .*\.$"):
        canvas.read(HOSTILE[name], LIMIT)


def test_a_bomb_is_refused_for_its_size() -> None:
    with pytest.raises(canvas.PictureError, match="pixels"):
        canvas.read(HOSTILE["bomb"], LIMIT)


KINDS = {"PNG": "RGB RGBA L LA P 1 I;16", "JPEG": "RGB L CMYK", "WEBP": "RGB RGBA L P"}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in KINDS.items() for mode in modes.split()])
def test_every_kind_of_picture_is_read(kind: str, mode: str) -> None:
    read = canvas.read(file_of(Image.new(mode, (5, 3)), kind), LIMIT)
    assert (read.size, read.mode) == ((5, 3), "RGBA")


def test_pictures_are_turned_upright() -> None:
    image, exif = noise((30, 20)), Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    read = canvas.read(buffer.getvalue(), LIMIT)
    assert read.size == (30, 20)
    assert image.size == (20, 30)
    expected = np.asarray(image.rotate(-90, expand=True)).astype(int)
    assert difference(np.asarray(read.convert("RGB")).astype(int), expected) == 0


def test_broken_notes_of_a_camera_do_not_matter() -> None:
    buffer = io.BytesIO()
    noise().save(buffer, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert canvas.read(buffer.getvalue(), LIMIT).size == (64, 64)


def test_the_area_to_redraw_is_black_and_white() -> None:
    mask = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 100], [0, 0, 0, 200], [9, 9, 9, 255]]], dtype=np.uint8))
    assert list(canvas.redrawn_area(mask).get_flattened_data()) == [255, 255, 0, 0]


@pytest.mark.parametrize("name", ["bomb", "text", "truncated png"])
@pytest.mark.parametrize("param", ["image", "mask"])
def test_an_engine_lives_on_after_a_hostile_upload(engine, name: str, param: str) -> None:
    studio = engine("turbo")
    good = file_of(noise())
    source, mask = (HOSTILE[name], good) if param == "image" else (good, HOSTILE[name])
    (failure,) = one(studio, DrawRequest(task="edit", prompt="a star", seed=1, sources=(source,), mask=mask))
    assert isinstance(failure, EngineFailure)
    assert (failure.reason, failure.details["param"]) == ("INVALID_ARGUMENT", param)
    assert isinstance(one(studio, draw(steps=1))[-1], Drawn)
