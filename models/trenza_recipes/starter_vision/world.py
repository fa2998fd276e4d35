"""What starter-vision sees: scenes of up to four coloured figures on one background, and the facts about them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trenza_recipes.starter_draw.world import SHAPES, Colour, Shape
from trenza_recipes.starter_vision.held_out import figure_is_held_out

Ground = Literal["red", "green", "blue", "yellow", "orange", "purple", "black", "white", "grey"]
Side = Literal["left", "right", "above", "below"]
Place = Literal["left", "right", "top", "bottom", "middle"]

FIGURE_COLOURS: tuple[Colour, ...] = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")
GROUNDS: tuple[Ground, ...] = (*FIGURE_COLOURS, "grey")
SIDES: tuple[Side, ...] = ("left", "right", "above", "below")
MOST_FIGURES = 4

_WHITE_SHARE = 0.35
_COUNT_WEIGHTS = (3, 30, 37, 18, 12)
_TRIES = 60
_SMALLEST = 0.085
_SMALLEST_OF_ALL = 0.068


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its centre and half its width in pixels, its turn in radians."""

    shape: Shape
    colour: Colour
    x: float
    y: float
    reach: float
    turn: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Figures, from left to right or from top to bottom, on a background; sides in pixels."""

    width: int
    height: int
    background: Ground
    figures: tuple[Figure, ...]

    @property
    def held_out(self) -> bool:
        """Whether a figure is of a shape and colour that training never shows on this background."""
        return any(figure_is_held_out(f.shape, f.colour, self.background) for f in self.figures)


def side_of(figure: Figure, other: Figure) -> Side | None:
    """On which side of `other` a figure plainly is: None where it is neither plainly beside nor above or below it."""
    dx, dy = figure.x - other.x, figure.y - other.y
    if abs(dx) > 1.25 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > 1.25 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def is_on_side(figure: Figure, other: Figure, side: Side) -> bool | None:
    """Whether a figure is left of, right of, above or below another; None where people could disagree."""
    dx, dy = figure.x - other.x, figure.y - other.y
    along, across = (dx, dy) if side in ("left", "right") else (dy, dx)
    if side in ("left", "above"):
        along = -along
    if abs(along) > 0.8 * abs(across):
        return along > 0
    return False if abs(along) < 0.25 * abs(across) else None


def nearest_on_side(figures: Sequence[Figure], index: int, side: Side) -> int | None:
    """The nearest figure on a side of figure `index` (within 45 degrees), or None."""
    here = figures[index]
    found: list[tuple[float, int]] = []
    for other_index, other in enumerate(figures):
        dx, dy = other.x - here.x, other.y - here.y
        along, across = (dx, dy) if side in ("left", "right") else (dy, dx)
        if side in ("left", "above"):
            along = -along
        if other_index != index and along > abs(across):
            found.append((math.hypot(dx, dy), other_index))
    return min(found)[1] if found else None


def asked_side(figures: Sequence[Figure], index: int, side: Side) -> tuple[bool, int | None]:
    """Whether it is plain what is on a side of figure `index`, and which figure that is (None for nothing)."""
    here = figures[index]
    distances: list[tuple[float, bool, int]] = []
    for other_index, other in enumerate(figures):
        if other_index == index:
            continue
        dx, dy = other.x - here.x, other.y - here.y
        along, across = (dx, dy) if side in ("left", "right") else (dy, dx)
        if side in ("left", "above"):
            along = -along
        if along > 0.75 * abs(across):
            distances.append((math.hypot(dx, dy), along > 1.25 * abs(across), other_index))
    if not distances:
        return True, None
    distances.sort()
    plain = distances[0][1] and (len(distances) == 1 or distances[1][0] > 1.3 * distances[0][0])
    return plain, distances[0][2] if plain else None


def place_of(figure: Figure, scene: Scene) -> Place | None:
    """Where in the picture a figure plainly is."""
    x, y = figure.x / scene.width - 0.5, figure.y / scene.height - 0.5
    far, near = max(abs(x), abs(y)), min(abs(x), abs(y))
    if far < 0.08:
        return "middle"
    if far < 0.14 or near > 0.7 * far:
        return None
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "top" if y < 0 else "bottom"


def random_size(rng: random.Random) -> tuple[int, int]:
    """Sides of a picture, from 64 to 1024 pixels, the longer at most three times the shorter."""
    if rng.random() < 0.45:
        side = rng.choice((64, 96, 112, 128, 200, 224, 256, 256, 300, 400, 512, 512, 768, 1024))
        return side, side
    longer = round(math.exp(rng.uniform(math.log(80), math.log(1024))))
    shorter = max(64, round(longer / rng.choice((rng.uniform(1.0, 2.0), rng.uniform(1.0, 3.0)))))
    return (longer, shorter) if rng.random() < 0.5 else (shorter, longer)


def random_scene(rng: random.Random, count: int | None = None, *, held_out: bool = False) -> Scene:
    """A scene from training, or one with a figure that training never has on its background."""
    number = rng.choices(range(MOST_FIGURES + 1), _COUNT_WEIGHTS)[0] if count is None else count
    while True:
        scene = _any_scene(rng, number if number or not held_out else 1)
        if scene is not None and scene.held_out == held_out:
            return scene


def _kinds(rng: random.Random, count: int, background: Ground) -> list[tuple[Shape, Colour]]:
    """Shapes and colours, in some scenes with much repetition so that there is something to count."""
    colours = [colour for colour in FIGURE_COLOURS if colour != background]
    shapes = list(SHAPES)
    repetition = rng.random()
    if repetition < 0.25:
        colours = rng.sample(colours, rng.randint(1, 2))
    elif repetition < 0.5:
        shapes = rng.sample(shapes, rng.randint(1, 2))
    elif repetition < 0.6:
        colours, shapes = rng.sample(colours, 2), rng.sample(shapes, 2)
    return [(rng.choice(shapes), rng.choice(colours)) for _ in range(count)]


def _any_scene(rng: random.Random, count: int) -> Scene | None:
    width, height = random_size(rng)
    background: Ground = "white" if rng.random() < _WHITE_SHARE else rng.choice(GROUNDS)
    spots = _spots(rng, width, height, count)
    if spots is None:
        return None
    turned = rng.random() < 0.2
    figures = [
        Figure(shape, colour, x, y, reach, rng.uniform(-0.2, 0.2) if turned else 0.0)
        for (shape, colour), (x, y, reach) in zip(_kinds(rng, count, background), spots, strict=True)
    ]
    return Scene(width, height, background, ordered(figures))


def ordered(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """Figures along the way they spread most: from left to right or from top to bottom."""
    if len(figures) < 2:
        return tuple(figures)
    across = max(f.x for f in figures) - min(f.x for f in figures)
    down = max(f.y for f in figures) - min(f.y for f in figures)
    return tuple(sorted(figures, key=(lambda f: f.x) if across >= down else (lambda f: f.y)))


def _spots(rng: random.Random, width: int, height: int, count: int) -> list[tuple[float, float, float]] | None:
    """Centres and reaches of figures that neither touch nor leave the picture."""
    if count and rng.random() < 0.3:
        return _row(rng, width, height, count)
    shorter, longer = min(width, height), max(width, height)
    smallest = _SMALLEST if longer < 2 * shorter and rng.random() < 0.8 else _SMALLEST_OF_ALL
    least = max(smallest * longer, 6.0)
    most = (0.46, 0.4, 0.32, 0.26, 0.22, 0.19, 0.17)[count] * math.sqrt(shorter * longer)
    found: list[tuple[float, float, float]] = []
    alike = rng.uniform(least, max(least, min(most, 0.45 * shorter))) if rng.random() < 0.4 else None
    for _ in range(_TRIES):
        if len(found) == count:
            return found
        reach = min(alike or rng.uniform(least, max(least, min(most, 0.45 * shorter))), 0.44 * shorter)
        margin = reach * 1.12
        x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
        if all(math.hypot(x - a, y - b) > 1.28 * (reach + r) for a, b, r in found):
            found.append((x, y, reach))
    return found if len(found) == count else None


def _row(rng: random.Random, width: int, height: int, count: int) -> list[tuple[float, float, float]] | None:
    """Figures beside each other or one above the other, roughly in a line."""
    beside = rng.random() < 0.5 if count > 1 else width >= height
    along, across = (width, height) if beside else (height, width)
    cell = min(along / count, across)
    if 0.3 * cell < 0.07 * max(width, height):
        return None
    found = []
    for index in range(count):
        reach = rng.uniform(0.26, 0.41) * cell
        middle = (index + 0.5) * along / count + rng.uniform(-0.06, 0.06) * cell
        slide = rng.uniform(-1, 1) * min(0.7 * (across / 2 - 1.1 * reach), 0.35 * along / count)
        found.append((middle, across / 2 + slide, reach) if beside else (across / 2 + slide, middle, reach))
    return found
