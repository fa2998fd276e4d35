"""Picture files in and out. What is uploaded may be anything at all: nothing is decoded before its size is known."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress

from PIL import Image, ImageOps

from trenza_images.core.sizes import Size
from trenza_images.engine import Encoding

_FORMATS = ("PNG", "JPEG", "WEBP")
_HALF = 128


class PictureError(ValueError):
    """The bytes are no picture that can be used; the message says why in one sentence."""


def read(data: bytes, limit_pixels: int) -> Image.Image:
    """The first picture of a PNG, JPEG or WebP file, upright, as RGBA. Raises PictureError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are judged here, and about metadata, which is left out
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            _check_size(image.size, limit_pixels)
            image.load()
            return _upright(image).convert("RGBA")
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"It has more than {limit_pixels} pixels.") from None
    except MemoryError:
        raise PictureError("It is too large to be decoded here.") from None
    except Exception:  # decoders fail on broken files with whatever comes to hand: OSError, SyntaxError, struct.error …
        raise PictureError("It is not a whole PNG, JPEG or WebP file.") from None


def _check_size(size: Size, limit_pixels: int) -> None:
    if not all(size):
        raise PictureError("It has no pixels.")
    if size[0] * size[1] > limit_pixels:
        raise PictureError(f"It has {size[0]}x{size[1]} pixels; at most {limit_pixels} can be read.")


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # a camera's notes may be broken where the picture is not
        return ImageOps.exif_transpose(image)
    return image


def flat(image: Image.Image) -> Image.Image:
    """The picture on white, without transparency."""
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")


def redrawn_area(mask: Image.Image) -> Image.Image:
    """Where to redraw, in white on black: transparent pixels, or white ones where nothing is transparent."""
    alpha = mask.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return mask.convert("L").point(lambda value: 255 if value >= _HALF else 0)
    return alpha.point(lambda value: 0 if value >= _HALF else 255)


def resized(image: Image.Image, size: Size) -> Image.Image:
    """The picture in another size."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def resized_area(area: Image.Image, size: Size) -> Image.Image:
    """A black and white area in another size, black and white again."""
    return area if area.size == size else area.resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, encoding: Encoding) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    match encoding.format:
        case "png":
            image.save(buffer, "PNG")
        case "jpeg":
            image.convert("RGB").save(buffer, "JPEG", quality=max(1, encoding.compression))
        case "webp":
            image.save(buffer, "WEBP", quality=encoding.compression, method=2)
    return buffer.getvalue()
