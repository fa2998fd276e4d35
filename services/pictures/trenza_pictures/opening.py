"""Opens a picture file that may be anything at all: nothing is decoded before its format and its size are known."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from trenza_pictures.core.headers import PictureFormat, Size, jpeg_scans, picture_format, stated_size, stranger

MAX_PIXELS = 80 * 2**20
"""The most that a limit may allow; beyond that Pillow itself becomes wary."""
MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten scans; each costs a pass over all pixels, and a few bytes in the file."""
MAX_RATIO = 200
"""How many times as long as wide a picture may be; models cannot look at threads."""
_BAND_PIXELS = 2**20
_ORIENTATION = 0x0112
_NAMES = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP", "GIF": "GIF"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by its EXIF orientation."""


class PictureError(ValueError):
    """The bytes are no picture that can be used; the message is one sentence for people."""


@dataclass(frozen=True, slots=True)
class OpenPicture:
    """A picture as plain pixels: RGB, 8 bits each, row by row from the top, 3 * width * height bytes."""

    width: int
    height: int
    pixels: bytes


def open_picture(data: bytes, longest_side: int, limit_pixels: int = MAX_PIXELS) -> OpenPicture:
    """The first picture of a PNG, JPEG, WebP or GIF file: upright, on white where it is transparent, in RGB.

    A longer side than `longest_side` pixels is scaled down to that; small pictures stay as they are. Colour profiles are not
    applied. A file with more than `limit_pixels` is refused by its header, a WebP file from half of that on, as its decoder takes
    twice the memory: opening one takes about nine bytes for each of `limit_pixels` at most. Raises PictureError.
    """
    form = _format_of(data)
    limit_pixels = limit_pixels // 2 if form == "WEBP" else limit_pixels
    _check_header(data, form, limit_pixels)
    try:
        picture = _decoded(data, form, longest_side, limit_pixels)
        return OpenPicture(picture.width, picture.height, picture.tobytes())
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"It has more than the {limit_pixels} pixels that can be read.") from None
    except MemoryError:
        raise PictureError("It is too large to be decoded here.") from None
    except Exception:  # decoders fail on broken files with whatever comes to hand: OSError, SyntaxError, struct.error …
        raise _damaged(form) from None


def _decoded(data: bytes, form: PictureFormat, longest_side: int, limit_pixels: int) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[form])
    _check_size(image.size, limit_pixels)  # a second header may contradict the first
    size = _fitted(image.size, longest_side)
    orientation = _orientation(image)
    # A JPEG is decoded at a fraction of its size where that is enough.
    image.draft(None, (2 * size[0], 2 * size[1]))
    image.load()
    _check_size(image.size, limit_pixels)
    picture = _scaled(image, size)
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _format_of(data: bytes) -> PictureFormat:
    if not data:
        raise PictureError("It has no bytes.")
    form = picture_format(data)
    if form is None:
        found = stranger(data)
        raise PictureError(
            f"It is {found}; PNG, JPEG, WebP and GIF can be read." if found else "It is no PNG, JPEG, WebP or GIF file."
        )
    return form


def _check_header(data: bytes, form: PictureFormat, limit_pixels: int) -> None:
    """Refuses a file by what it says of itself."""
    size = stated_size(data, form)
    if size is None:
        raise _damaged(form)
    _check_size(size, limit_pixels)
    if form == "JPEG" and jpeg_scans(data) > MAX_JPEG_SCANS:
        raise PictureError(f"It is a JPEG file in more than {MAX_JPEG_SCANS} passes.")


def _damaged(form: PictureFormat) -> PictureError:
    return PictureError(f"It is damaged or not a whole {_NAMES[form]} file.")


def _check_size(size: Size, limit_pixels: int) -> None:
    width, height = size
    if not width or not height:
        raise PictureError("It has no pixels.")
    if width * height > limit_pixels:
        raise PictureError(f"It has {width} x {height} pixels; at most {limit_pixels} can be read.")
    if max(size) > MAX_RATIO * min(size):
        raise PictureError(f"It has {width} x {height} pixels, more than {MAX_RATIO} times as long as wide.")


def _fitted(size: Size, longest_side: int) -> Size:
    width, height = size
    scale = min(1.0, longest_side / max(size))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # a camera's notes may be broken where the picture is not
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _scaled(image: Image.Image, size: Size) -> Image.Image:
    """The picture without transparency in the wanted size. It goes band by band, so that only small copies are ever made of it."""
    factor = max(1, min(image.width // (2 * size[0]), image.height // (2 * size[1])))
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    band = factor * max(1, _BAND_PIXELS // (image.width * factor))
    for top in range(0, image.height, band):
        piece = _flat(image.crop((0, top, image.width, min(image.height, top + band))))
        reduced.paste(piece.reduce(factor), (0, top // factor))
    return reduced if reduced.size == size else reduced.resize(size, Image.Resampling.LANCZOS)


def _flat(piece: Image.Image) -> Image.Image:
    """The piece on white, in RGB."""
    if piece.mode.startswith("I;16"):
        piece = piece.point(lambda value: value * (1 / 256)).convert(
            "L"
        )  # converted alone, most of it would come out white
    if not piece.has_transparency_data:
        return piece.convert("RGB")
    ground = Image.new("RGBA", piece.size, "white")
    return Image.alpha_composite(ground, piece.convert("RGBA")).convert("RGB")
