"""What the two languages have in common: how a fact is asked and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from trenza_recipes.starter_draw.world import Colour, Shape
from trenza_recipes.starter_vision.world import Ground, Place, Side

LanguageName = Literal["en", "es"]


@dataclass(frozen=True)
class Words:
    """A language: names of things, and wordings of every kind of question.

    `figure(colour, shape, number)` names figures without an article, `a` puts the indefinite article before one figure, `the` the
    definite one; `coloured(colour, shape, number)` is the colour as it is said of a shape (None: of figures in general).
    A wording holds what it asks for in braces.
    """

    name: LanguageName
    figure: Callable[[Colour | None, Shape | None, bool], str]
    a: Callable[[Colour | None, Shape | None], str]
    the: Callable[[Colour | None, Shape | None, bool], str]
    of_the: Callable[[Colour | None, Shape | None], str]
    coloured: Callable[[Ground, Shape | None, bool], str]
    number: Callable[[int, Shape | None], str]
    sides: Mapping[Side, str]
    asked_sides: Mapping[Side, tuple[str, ...]]
    places: Mapping[Place, str]
    conjunction: str
    questions: Mapping[str, tuple[str, ...]]
    answers: Mapping[str, str]
