"""Which scenes and phrasings are kept out of training, by a rule that never changes."""

from __future__ import annotations

import hashlib

from trenza_recipes.starter_draw.world import Scene

_HELD_OUT_PERCENT = 15


def is_held_out(key: str) -> bool:
    """Whether what `key` names is kept for tests: about one key in seven is."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100 < _HELD_OUT_PERCENT


def scene_is_held_out(scene: Scene) -> bool:
    """Whether any figure's shape and colour on this background must never be seen in training."""
    return any(is_held_out(f"{f.shape} {f.colour} {scene.background}") for f in scene.figures if f.colour is not None)
