"""Which scenes and questions are kept out of training, by a rule that never changes."""

from __future__ import annotations

import hashlib

_HELD_OUT_PERCENT = 15


def is_held_out(key: str) -> bool:
    """Whether what `key` names is kept for tests: about one key in seven is."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100 < _HELD_OUT_PERCENT


def figure_is_held_out(shape: str, colour: str, background: str) -> bool:
    """Whether a figure of this shape and colour on this background must never be seen in training."""
    return is_held_out(f"{shape} {colour} {background}")


def question_is_held_out(wording: str, subject: str) -> bool:
    """Whether this wording must never ask about this subject in training."""
    return is_held_out(f"{wording} | {subject}")
