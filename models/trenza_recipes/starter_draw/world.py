"""What starter-draw draws: scenes of one or two coloured shapes on a plain background, and how a scene becomes a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

Shape = Literal["circle", "square", "triangle", "star"]
Colour = Literal["red", "green", "blue", "yellow", "orange", "purple", "black", "white"]
Arrangement = Literal["alone", "beside", "stacked"]

SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "star")
COLOURS: dict[Colour, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (245, 215, 50),
    "orange": (245, 140, 30),
    "purple": (140, 60, 180),
    "black": (20, 20, 20),
    "white": (255, 255, 255),
}

PLACES = 6
"""How many numbers from 0 to 1 place the figures of a scene."""

_STAR_INNER = 0.45
_STAR_REACH = 1.25
_OVERSAMPLING = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """One shape of a scene. A colour of None leaves the choice to whoever draws."""

    shape: Shape
    colour: Colour | None

    def colour_on(self, background: Colour) -> Colour:
        """The colour it is drawn in: its own, or black, or white where black would not show."""
        if self.colour is not None:
            return self.colour
        return "white" if background == "black" else "black"


@dataclass(frozen=True, slots=True)
class Scene:
    """One figure alone, or two: beside each other from left to right, or stacked from top to bottom."""

    figures: tuple[Figure, ...]
    arrangement: Arrangement = "alone"
    background: Colour = "white"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a figure is: its centre and half its width, in pixels."""

    x: float
    y: float
    reach: float


def outline(shape: Shape, spot: Spot) -> list[tuple[float, float]]:
    """The corners of a square, triangle or star at `spot`; a circle has none."""
    x, y, r = spot.x, spot.y, spot.reach
    match shape:
        case "square":
            return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
        case "triangle":
            return [(x, y - r), (x + r, y + r), (x - r, y + r)]
        case "star":
            angles = [-math.pi / 2 + k * math.pi / 5 for k in range(10)]
            reaches = [r * _STAR_REACH * (1.0 if k % 2 == 0 else _STAR_INNER) for k in range(10)]
            return [(x + q * math.cos(a), y + q * math.sin(a)) for a, q in zip(angles, reaches, strict=True)]
        case "circle":
            return []


def paint_shape(brush: ImageDraw.ImageDraw, shape: Shape, spot: Spot, fill: tuple[int, int, int] | int) -> None:
    """Fill one shape."""
    if shape == "circle":
        box = (spot.x - spot.reach, spot.y - spot.reach, spot.x + spot.reach, spot.y + spot.reach)
        brush.ellipse(box, fill=fill)
    else:
        brush.polygon(outline(shape, spot), fill=fill)


def spots(scene: Scene, width: float, height: float, places: Sequence[float]) -> list[Spot]:
    """Where the figures of a scene go in a picture of `width` x `height`.

    `places` are PLACES numbers from 0 to 1: 0.5 everywhere is the middle of what is possible, 0 and 1 its ends.
    """
    if scene.arrangement == "alone":
        reach = (0.18 + 0.14 * places[2]) * min(width, height)
        margin = reach * _STAR_REACH + 0.03 * min(width, height)
        x = margin + (width - 2 * margin) * places[0]
        return [Spot(x, margin + (height - 2 * margin) * places[1], reach)]
    along, across = (width, height) if scene.arrangement == "beside" else (height, width)
    cell = min(along / 2, across)
    found = []
    for middle, (shift, slide, size) in ((0.25, places[:3]), (0.75, places[3:])):
        reach = (0.31 + 0.12 * size) * cell
        room = across / 2 - reach * _STAR_REACH
        place = (middle * along + 0.08 * (shift - 0.5) * cell, across / 2 + 1.6 * (slide - 0.5) * room)
        x, y = place if scene.arrangement == "beside" else place[::-1]
        found.append(Spot(x, y, reach))
    return found


def render(scene: Scene, width: int, height: int, places: Sequence[float]) -> Image.Image:
    """The picture of a scene, with smooth edges."""
    scale = _OVERSAMPLING
    picture = Image.new("RGB", (width * scale, height * scale), COLOURS[scene.background])
    brush = ImageDraw.Draw(picture)
    for figure, spot in zip(scene.figures, spots(scene, width * scale, height * scale, places), strict=True):
        paint_shape(brush, figure.shape, spot, COLOURS[figure.colour_on(scene.background)])
    return picture.reduce(scale)
