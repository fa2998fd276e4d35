"""Judges a picture against a scene by its pixels: how many figures, their forms, colours and places, and the background."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trenza_recipes.starter_draw.world import COLOURS, SHAPES, Colour, Scene, Shape, Spot, outline

_JUDGED_SIDE = 128
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float64)
_COLOUR_TOLERANCE = 45
_FIGURE_CONTRAST = 38
_SMALLEST_FIGURE = 0.008
_SPECKS = 0.01
_FLAT_BORDER = 0.95
_FLAT_FIGURE = 0.8
_LIKENESS = 0.7
_OBLONG = 1.35
_MOST_FIGURES = 4
_APART = 0.15
_OVERSAMPLING = 4

_Mask = NDArray[np.bool_]

Problem = Literal["", "background", "specks", "count", "form", "colour", "place"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A figure found in a picture: None for a form or colour that has no name; the centre in shares of the sides."""

    shape: Shape | None
    colour: Colour | None
    x: float
    y: float
    likeness: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a picture shows, and the first thing that is not as the scene has it ("" where all is right)."""

    problem: Problem
    background: Colour | None
    figures: tuple[Seen, ...]

    @property
    def right(self) -> bool:
        """Whether the picture shows the scene."""
        return not self.problem


def judge(image: Image.Image, scene: Scene) -> Verdict:
    """Compare a picture of any size from 64 to 1024 pixels a side with a scene."""
    pixels = _thumbnail(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, axis=0)
    background = _named(ground)
    different = np.abs(pixels - ground).max(-1) > _FIGURE_CONTRAST
    regions = _regions(different)
    large = [region for region in regions if region.mean() >= _SMALLEST_FIGURE]
    figures = tuple(_seen(pixels, ground, region) for region in large[:_MOST_FIGURES])
    flat = bool((np.abs(border - ground).max(-1) <= _COLOUR_TOLERANCE).mean() >= _FLAT_BORDER)
    specks = different.mean() - sum(region.mean() for region in large)
    if not flat or background != scene.background:
        return Verdict("background", background, figures)
    if specks > _SPECKS:
        return Verdict("specks", background, figures)
    return Verdict(_first_problem(figures, len(large), scene), background, figures)


def _first_problem(figures: tuple[Seen, ...], count: int, scene: Scene) -> Problem:
    if count != len(scene.figures):
        return "count"
    problems: list[Problem] = [_mismatch(order, scene) for order in permutations(figures)]
    return min(problems, key=("", "place", "colour", "form").index)


def _mismatch(figures: tuple[Seen, ...], scene: Scene) -> Problem:
    """What is wrong if `figures` are, in this order, those of the scene."""
    for seen, wanted in zip(figures, scene.figures, strict=True):
        if seen.shape != wanted.shape:
            return "form"
    for seen, wanted in zip(figures, scene.figures, strict=True):
        if seen.colour is None or wanted.colour not in {None, seen.colour}:
            return "colour"
    return "" if _placed(figures, scene) else "place"


def _placed(figures: tuple[Seen, ...], scene: Scene) -> bool:
    if scene.arrangement == "alone":
        return True
    right, down = figures[1].x - figures[0].x, figures[1].y - figures[0].y
    return (right if scene.arrangement == "beside" else down) >= _APART


def _thumbnail(image: Image.Image) -> NDArray[np.float64]:
    """The picture's pixels (height, width, 3), its longer side no more than the judged one."""
    plain = image.convert("RGB")
    scale = _JUDGED_SIDE / max(plain.size)
    if scale < 1:
        plain = plain.resize((round(plain.width * scale), round(plain.height * scale)), Image.Resampling.BOX)
    return np.asarray(plain).astype(np.float64)


def _named(colour: NDArray[Any]) -> Colour | None:
    """The colour of the small world that this is, or None if it is too far from all of them."""
    distances = np.abs(_PALETTE - colour).max(-1)
    nearest = int(distances.argmin())
    return list(COLOURS)[nearest] if distances[nearest] <= _COLOUR_TOLERANCE else None


def _regions(mask: _Mask) -> list[_Mask]:
    """The connected parts of a mask, largest first."""
    height, width = mask.shape
    labels = np.where(mask, np.arange(1, height * width + 1).reshape(height, width), 0)
    while True:
        ringed = np.pad(labels, 1)
        sides = (ringed[:-2, 1:-1], ringed[2:, 1:-1], ringed[1:-1, :-2], ringed[1:-1, 2:])
        spread = np.maximum.reduce([labels, *sides]) * mask
        if (spread == labels).all():
            break
        labels = spread
    names, sizes = np.unique(labels[mask], return_counts=True)
    return [labels == name for name in names[np.argsort(-sizes, kind="stable")]]


def _seen(pixels: NDArray[np.float64], ground: NDArray[np.float64], region: _Mask) -> Seen:
    region = _contour(pixels, ground, region)
    rows, columns = np.nonzero(region)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    form = region[top:bottom, left:right]
    likenesses = {shape: _likeness(form, shape) for shape in SHAPES}
    shape = max(likenesses, key=likenesses.__getitem__)
    oblong = max(form.shape) / min(form.shape)
    colours = pixels[_inside(region)]
    colour = np.median(colours, axis=0)
    flat = (np.abs(colours - colour).max(-1) <= _COLOUR_TOLERANCE).mean() >= _FLAT_FIGURE
    return Seen(
        shape if likenesses[shape] >= _LIKENESS and oblong <= _OBLONG else None,
        _named(colour) if flat else None,
        float((left + right) / 2 / pixels.shape[1]),
        float((top + bottom) / 2 / pixels.shape[0]),
        round(float(likenesses[shape]), 3),
    )


def _contour(pixels: NDArray[np.float64], ground: NDArray[np.float64], region: _Mask) -> _Mask:
    """The part of a region that is nearer to its own colour than to the background: its contour in spite of blur."""
    own = np.median(pixels[_inside(region)], axis=0)
    own_side = ((pixels - ground) @ (own - ground)) >= ((own - ground) @ (own - ground)) / 2
    return region & own_side


def _inside(region: _Mask) -> _Mask:
    """A region without its blurred rim, or all of one that is little else."""
    ringed = np.pad(region, 1)
    inner = region & ringed[:-2, 1:-1] & ringed[2:, 1:-1] & ringed[1:-1, :-2] & ringed[1:-1, 2:]
    return inner if inner.sum() * 3 >= region.sum() else region


def _likeness(form: _Mask, shape: Shape) -> float:
    """How much of a form and of a shape stretched over the same box is common to both, from 0 to 1."""
    model = _stretched(shape, form.shape[1], form.shape[0])
    return float((form & model).sum() / (form | model).sum())


def _stretched(shape: Shape, width: int, height: int) -> _Mask:
    wide, high = width * _OVERSAMPLING, height * _OVERSAMPLING
    canvas = Image.new("L", (wide, high), 0)
    brush = ImageDraw.Draw(canvas)
    if shape == "circle":
        brush.ellipse((0, 0, wide - 1, high - 1), fill=255)
    else:
        corners = np.array(outline(shape, Spot(0.0, 0.0, 1.0)))
        corners = (corners - corners.min(0)) / np.ptp(corners, axis=0) * [wide - 1, high - 1]
        brush.polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.asarray(canvas.reduce(_OVERSAMPLING)) > 127
