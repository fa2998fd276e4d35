"""Which scenes and phrasings are kept out of training, by a rule that never changes."""

from __future__ import annotations

from trenza_recipes.starter_chat.held_out import is_held_out
from trenza_recipes.starter_draw.world import Scene


def scene_is_held_out(scene: Scene) -> bool:
    """Whether any figure's shape and colour on this background must never be seen in training."""
    return any(is_held_out(f"{f.shape} {f.colour} {scene.background}") for f in scene.figures if f.colour is not None)
