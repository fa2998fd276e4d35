"""Which scenes and questions are kept out of training, by a rule that never changes."""

from __future__ import annotations

from trenza_recipes.starter_chat.held_out import is_held_out


def figure_is_held_out(shape: str, colour: str, background: str) -> bool:
    """Whether a figure of this shape and colour on this background must never be seen in training."""
    return is_held_out(f"{shape} {colour} {background}")


def question_is_held_out(wording: str, subject: str) -> bool:
    """Whether this wording must never ask about this subject in training."""
    return is_held_out(f"{wording} | {subject}")
