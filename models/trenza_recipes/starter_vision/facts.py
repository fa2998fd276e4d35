"""What the eye learns to tell about every patch: the figure that covers it, that figure's neighbours and likes, the whole."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trenza_recipes.starter_draw.world import SHAPES
from trenza_recipes.starter_vision.drawing import IMAGE_SIDE, centres, owners
from trenza_recipes.starter_vision.world import (
    FIGURE_COLOURS,
    GROUNDS,
    MOST_FIGURES,
    SIDES,
    Scene,
    nearest_on_side,
)

IGNORED = -1
_OF_FIGURE = 1 + len(SHAPES)
_OF_COLOUR = 1 + len(FIGURE_COLOURS)
_COUNTS = MOST_FIGURES + 1
_PARTS = 7

QUESTIONS: dict[str, tuple[int, float]] = {
    "shape": (_OF_FIGURE, 1.0),
    "colour": (_OF_COLOUR, 1.0),
    "ground": (len(GROUNDS), 0.3),
    "count": (_COUNTS, 0.4),
    "rank": (_COUNTS, 0.5),
    "same shape": (_COUNTS, 0.4),
    "same colour": (_COUNTS, 0.4),
    "same": (_COUNTS, 0.4),
    "centre": (2, 0.3),
    **{f"{side} shape": (_OF_FIGURE, 0.25) for side in SIDES},
    **{f"{side} colour": (_OF_COLOUR, 0.25) for side in SIDES},
    "across": (_PARTS, 0.4),
    "down": (_PARTS, 0.4),
}
"""What is told about a patch: how many possible answers, and how much a wrong one weighs. 0 is "none"."""

WIDTH = sum(2 if name == "centre" else size for name, (size, _) in QUESTIONS.items())


def facts_of(scene: Scene, patch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The answers for every patch (patches, questions) and which figure covers it (patches; 0 for none).

    "rank" and all that asks about the figure's likes and neighbours is left open where no figure is.
    """
    owner = owners(scene, patch)
    table = np.full((len(scene.figures) + 1, len(QUESTIONS)), IGNORED, np.int64)
    names = list(QUESTIONS)

    def put(row: int, name: str, value: int) -> None:
        table[row, names.index(name)] = value

    for row in range(len(table)):
        put(row, "shape", 0)
        put(row, "colour", 0)
        put(row, "rank", 0)
        put(row, "ground", GROUNDS.index(scene.background))
        put(row, "count", len(scene.figures))
    for index, figure in enumerate(scene.figures):
        row = index + 1
        put(row, "shape", 1 + SHAPES.index(figure.shape))
        put(row, "colour", 1 + FIGURE_COLOURS.index(figure.colour))
        put(row, "rank", row)
        put(row, "across", min(_PARTS - 1, int(figure.x / scene.width * _PARTS)))
        put(row, "down", min(_PARTS - 1, int(figure.y / scene.height * _PARTS)))
        shapes = [other.shape == figure.shape for other in scene.figures]
        colours = [other.colour == figure.colour for other in scene.figures]
        put(row, "same shape", sum(shapes))
        put(row, "same colour", sum(colours))
        put(row, "same", sum(a and b for a, b in zip(shapes, colours, strict=True)))
        for side in SIDES:
            near = nearest_on_side(scene.figures, index, side)
            put(row, f"{side} shape", 0 if near is None else 1 + SHAPES.index(scene.figures[near].shape))
            put(row, f"{side} colour", 0 if near is None else 1 + FIGURE_COLOURS.index(scene.figures[near].colour))
    answers = table[owner]
    answers[:, names.index("centre")] = _offsets(scene, owner, patch)
    return answers, owner


def _offsets(scene: Scene, owner: NDArray[np.int64], patch: int) -> NDArray[np.int64]:
    """From each patch's middle to its figure's centre in pixels, both numbers packed into one; IGNORED without figure."""
    per_side = IMAGE_SIDE // patch
    middles = centres(scene)
    packed = np.full(len(owner), IGNORED, np.int64)
    for cell in np.flatnonzero(owner):
        x, y = middles[owner[cell] - 1]
        dx, dy = x - (cell % per_side + 0.5) * patch, y - (cell // per_side + 0.5) * patch
        packed[cell] = (round(dx) + 128) * 256 + round(dy) + 128
    return packed


def telling_loss(told: Tensor, answers: Tensor) -> tuple[Tensor, dict[str, float]]:
    """How wrong the heads' answers (batch, patches, WIDTH) are, and the share of right ones per question."""
    total = told.sum() * 0.0
    right: dict[str, float] = {}
    first = 0
    for index, (name, (size, weight)) in enumerate(QUESTIONS.items()):
        guess, answer = told[..., first : first + size].flatten(0, 1), answers[..., index].flatten()
        first += size
        known = answer != IGNORED
        guess, answer = guess[known], answer[known]
        if not len(answer):
            continue
        if name == "centre":
            offsets = torch.stack([answer // 256 - 128, answer % 256 - 128], -1).float() / 16
            total = total + weight * functional.smooth_l1_loss(guess, offsets)
            continue
        total = total + weight * functional.cross_entropy(guess, answer)
        right[name] = (guess.argmax(-1) == answer).float().mean().item()
    return total, right
