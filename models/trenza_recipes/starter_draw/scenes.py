"""Random scenes, for training or from what is held out."""

from __future__ import annotations

import random

from trenza_recipes.starter_draw.held_out import scene_is_held_out
from trenza_recipes.starter_draw.world import COLOURS, SHAPES, Arrangement, Figure, Scene

_WHITE_SHARE = 0.4
_ALONE_SHARE = 0.55
_COLOURLESS_SHARE = 0.06
_EQUAL_SHARE = 0.12


def random_scene(rng: random.Random, *, held_out: bool = False, alone_share: float = _ALONE_SHARE) -> Scene:
    """A scene whose figures all show on its background: from training, or one with a figure that training never has."""
    while True:
        scene = _any_scene(rng, alone_share)
        if scene_is_held_out(scene) == held_out:
            return scene


def _any_scene(rng: random.Random, alone_share: float) -> Scene:
    background = "white" if rng.random() < _WHITE_SHARE else rng.choice(list(COLOURS))
    showing = [colour for colour in COLOURS if colour != background]

    def figure() -> Figure:
        return Figure(rng.choice(SHAPES), None if rng.random() < _COLOURLESS_SHARE else rng.choice(showing))

    if rng.random() < alone_share:
        return Scene((figure(),), "alone", background)
    arrangement: Arrangement = "beside" if rng.random() < 0.6 else "stacked"
    first = figure()
    second = first if rng.random() < _EQUAL_SHARE else figure()
    return Scene((first, second), arrangement, background)
