"""How a scene becomes a picture, how the picture is spoiled, and how llama.cpp makes it ready for the encoder."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trenza_recipes.starter_draw.world import COLOURS, Shape
from trenza_recipes.starter_vision.world import Figure, Ground, Scene

IMAGE_SIDE = 112
"""The side of the square that the encoder sees, in pixels."""
PADDING = (122, 116, 104)
"""What llama.cpp fills the square with around a picture that is not square."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

Rgb = tuple[int, int, int]

_OTHER_TINTS: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (200, 20, 30), (230, 60, 60)),
    "green": ((0, 128, 0), (0, 200, 0), (0, 255, 0), (50, 180, 80)),
    "blue": ((0, 0, 255), (30, 60, 180), (60, 110, 240)),
    "yellow": ((255, 255, 0), (250, 225, 80), (255, 220, 0)),
    "orange": ((255, 165, 0), (255, 128, 0), (240, 130, 40)),
    "purple": ((128, 0, 128), (160, 32, 240), (120, 50, 150)),
    "black": ((0, 0, 0), (30, 30, 30)),
    "white": ((255, 255, 255), (245, 245, 245)),
    "grey": ((128, 128, 128), (160, 160, 160), (190, 190, 190)),
}
_DRAWN_SIDE = 224
_GREY = (140, 140, 140)


def _tint(rng: random.Random, colour: Ground) -> Rgb:
    """A shade of a colour."""
    usual = _GREY if colour == "grey" else COLOURS[colour]
    base = usual if rng.random() < 0.5 else rng.choice(_OTHER_TINTS[colour])
    shift = 4 if colour in ("white", "black") else 10
    red, green, blue = (max(0, min(255, value + rng.randint(-shift, shift))) for value in base)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Style:
    """How stars and triangles are drawn: how far in a star's inner corners are, and whether triangles' sides are equal."""

    inner: float = 0.45
    equilateral: bool = False


def corners(
    figure: Figure, scale: float, left: float, top: float, style: Style | None = None
) -> list[tuple[float, float]]:
    """The outline of a figure as a polygon; of a circle, one of 48 corners."""
    points = _unit_outline(figure.shape, style or Style())
    cosine, sine = math.cos(figure.turn), math.sin(figure.turn)
    x, y, r = figure.x * scale + left, figure.y * scale + top, figure.reach * scale
    return [(x + r * (a * cosine - b * sine), y + r * (a * sine + b * cosine)) for a, b in points]


def _unit_outline(shape: Shape, style: Style) -> list[tuple[float, float]]:
    match shape:
        case "square":
            return [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        case "triangle":
            if style.equilateral:
                return [(0, -1), (0.866, 0.5), (-0.866, 0.5)]
            return [(0, -1), (1, 1), (-1, 1)]
        case "star":
            reaches = [1.1 if k % 2 == 0 else 1.1 * style.inner for k in range(10)]
            return [(q * math.sin(k * math.pi / 5), -q * math.cos(k * math.pi / 5)) for k, q in enumerate(reaches)]
        case "circle":
            return [(math.cos(k * math.pi / 24), math.sin(k * math.pi / 24)) for k in range(48)]


def draw(scene: Scene, rng: random.Random, *, spoiled: bool = True, whole: bool = False) -> Image.Image:
    """The picture of a scene, spoiled a little; unless `whole`, a large one in a size that shows the encoder no less."""
    scale = 1.0 if whole else min(1.0, _DRAWN_SIDE / max(scene.width, scene.height))
    oversampling = rng.choice((1, 2, 3)) if scale == 1 else rng.choice((1, 2))
    width, height = max(1, round(scene.width * scale)), max(1, round(scene.height * scale))
    size = (width * oversampling, height * oversampling)
    picture = Image.new("RGB", size, _tint(rng, scene.background))
    brush = ImageDraw.Draw(picture)
    style = Style(0.45 if rng.random() < 0.5 else rng.uniform(0.38, 0.5), rng.random() < 0.3)
    tints: dict[str, Rgb] = {}
    for figure in scene.figures:
        fill = tints.setdefault(figure.colour, _tint(rng, figure.colour))
        brush.polygon(corners(figure, scale * oversampling, 0, 0, style), fill=fill)
    picture = picture.reduce(oversampling) if oversampling > 1 else picture
    return _spoil(picture, rng) if spoiled else picture


def _spoil(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Soft edges, noise, a gradual change of light, traces of JPEG: each in some pictures."""
    side = max(picture.size)
    if rng.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.017 * side)))
    if rng.random() < 0.35:
        picture = _noisy(picture, rng)
    if rng.random() < 0.2:
        held = io.BytesIO()
        picture.save(held, "JPEG", quality=rng.randint(30, 92))
        picture = Image.open(held).convert("RGB")
    return picture


def _noisy(picture: Image.Image, rng: random.Random) -> Image.Image:
    source = np.random.default_rng(rng.getrandbits(32))
    pixels: NDArray[Any] = np.asarray(picture).astype(np.float32)
    height, width, _ = pixels.shape
    if rng.random() < 0.5:
        pixels = pixels + source.normal(0, rng.uniform(2, 14), pixels.shape)
    else:
        coarse = source.normal(0, rng.uniform(3, 10), (rng.randint(2, 9), rng.randint(2, 9), 3))
        span = float(np.abs(coarse).max()) + 1e-6
        small = Image.fromarray((127.5 + 127 * coarse / span).astype(np.uint8))
        waves = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
        pixels = pixels + (waves - 127.5) * span / 127
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def frame(width: int, height: int) -> tuple[int, int, int, int]:
    """Size and place (width, height, left, top) of a picture within the encoder's square, as llama.cpp computes them."""
    scale = np.float32(min(np.float32(IMAGE_SIDE) / width, np.float32(IMAGE_SIDE) / height))
    new_width = min(math.ceil(np.float32(width) * scale), IMAGE_SIDE)
    new_height = min(math.ceil(np.float32(height) * scale), IMAGE_SIDE)
    return new_width, new_height, (IMAGE_SIDE - new_width) // 2, (IMAGE_SIDE - new_height) // 2


def fitted(picture: Image.Image) -> NDArray[np.uint8]:
    """The encoder's square (side, side, 3): the picture resized as llama.cpp does, padding around it."""
    width, height, left, top = frame(*picture.size)
    square = Image.new("RGB", (IMAGE_SIDE, IMAGE_SIDE), PADDING)
    same = picture.size == (width, height)
    square.paste(picture if same else picture.resize((width, height), Image.Resampling.BICUBIC), (left, top))
    return np.asarray(square)


def normalised(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Squares (batch, side, side, 3) as the encoder takes them (batch, 3, side, side)."""
    scaled = (squares.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def owners(scene: Scene, patch: int) -> NDArray[np.int64]:
    """Which figure covers each patch of the square (0 for none, 1 for the first), row by row; and its share is a tenth."""
    scale = IMAGE_SIDE / max(scene.width, scene.height)
    _, _, left, top = frame(scene.width, scene.height)
    mask = Image.new("L", (IMAGE_SIDE, IMAGE_SIDE))
    brush = ImageDraw.Draw(mask)
    for number, figure in enumerate(scene.figures, 1):
        brush.polygon(corners(figure, scale, left, top), fill=number)
    per_side = IMAGE_SIDE // patch
    cells = np.asarray(mask).reshape(per_side, patch, per_side, patch).swapaxes(1, 2).reshape(per_side**2, -1)
    shares = np.stack([(cells == number).mean(1) for number in range(1, len(scene.figures) + 1)] or [cells[:, 0] * 0.0])
    return np.where(shares.max(0) >= 0.1, shares.argmax(0) + 1, 0)


def centres(scene: Scene) -> Sequence[tuple[float, float]]:
    """The centres of the figures in the square, in pixels."""
    scale = IMAGE_SIDE / max(scene.width, scene.height)
    _, _, left, top = frame(scene.width, scene.height)
    return [(figure.x * scale + left, figure.y * scale + top) for figure in scene.figures]
