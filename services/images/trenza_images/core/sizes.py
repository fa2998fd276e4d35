"""How large a picture may be, and at which size it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""


class SizeError(ValueError):
    """A size that cannot be honoured; the message says what can be."""


@dataclass(frozen=True, slots=True)
class SizeRules:
    """What a model can draw.

    `multiple` divides both sides of whatever is drawn. `native` is the side of the square that the model draws where its manifest
    binds it to one; None lets it draw at the asked size. `usual` is the size of a picture for which none was asked.
    """

    usual: Size
    multiple: int
    native: int | None
    min_side: int
    max_side: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class SizePlan:
    """The size at which a picture is drawn, and the one to which it is then resized."""

    drawn: Size
    shown: Size


def plan_generated(asked: Size | None, rules: SizeRules) -> SizePlan:
    """Sizes of a picture that is drawn from a text. Raises SizeError."""
    shown = asked or rules.usual
    _check(shown, rules)
    if rules.native:
        return SizePlan(scaled(shown, rules.native**2, rules.multiple), shown)
    if shown[0] % rules.multiple or shown[1] % rules.multiple:
        raise SizeError(f"Width and height must be multiples of {rules.multiple}, and {_text(shown)} is not.")
    return SizePlan(shown, shown)


def plan_redrawn(asked: Size | None, source: Size, rules: SizeRules) -> SizePlan:
    """Sizes of a picture that is drawn after another. Without a size it becomes as large as that one. Raises SizeError."""
    if asked:
        return plan_generated(asked, rules)
    shown = _within(source, rules)
    area = rules.native**2 if rules.native else min(shown[0] * shown[1], rules.usual[0] * rules.usual[1])
    return SizePlan(scaled(shown, area, rules.multiple), shown)


def scaled(size: Size, area: int, multiple: int) -> Size:
    """A size of about this area in about the same proportions, with sides that `multiple` divides."""
    factor = math.sqrt(area / (size[0] * size[1]))
    width, height = (max(multiple, round(side * factor / multiple) * multiple) for side in size)
    return width, height


def _check(size: Size, rules: SizeRules) -> None:
    if not all(rules.min_side <= side <= rules.max_side for side in size):
        raise SizeError(f"Width and height must be between {rules.min_side} and {rules.max_side}, not {_text(size)}.")
    if size[0] * size[1] > rules.max_pixels:
        raise SizeError(f"A picture has at most {rules.max_pixels} pixels, and {_text(size)} has more.")


def _within(source: Size, rules: SizeRules) -> Size:
    """The source's size, or the nearest one of its proportions that is allowed. Raises SizeError where there is none."""
    width, height = source
    factor = min(1.0, rules.max_side / max(source), math.sqrt(rules.max_pixels / (width * height)))
    factor = max(factor, rules.min_side / min(source))
    shown = (round(width * factor), round(height * factor)) if factor != 1 else source
    _check(shown, rules)
    return shown


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
