"""The table of kinds: what each is called, how it is drawn and how often it is trained."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from trenza_recipes.starter_chat.exchange import LANGUAGES, Episode
from trenza_recipes.starter_chat.held_out import is_held_out
from trenza_recipes.starter_chat.kinds.arithmetic import (
    draw_addition,
    draw_addition_by_heart,
    draw_count,
    draw_subtraction,
    draw_subtraction_by_heart,
)
from trenza_recipes.starter_chat.kinds.copying import draw_repeat, draw_spell
from trenza_recipes.starter_chat.kinds.days import draw_day
from trenza_recipes.starter_chat.kinds.facts import draw_capital, draw_colour, draw_shape, draw_yes_no
from trenza_recipes.starter_chat.kinds.json_answers import draw_json, draw_json_by_heart
from trenza_recipes.starter_chat.kinds.names import draw_name_told, draw_recall, draw_untold
from trenza_recipes.starter_chat.kinds.scenes import draw_drawing, draw_translation
from trenza_recipes.starter_chat.kinds.talk import draw_courtesy, draw_identity
from trenza_recipes.starter_chat.kinds.unknown import draw_unknown

Draw = Callable[[Random, str], Episode]
DRAW_ATTEMPTS = 400


def _draw_between(rng: Random, draw_sum: Draw) -> Episode:
    """One short exchange of a kind that says nothing about names."""
    draws = (
        draw_sum,
        draw_courtesy,
        draw_colour,
        draw_capital,
        draw_day,
        draw_spell,
        draw_repeat,
        draw_identity,
        draw_unknown,
    )
    return _trained(rng, rng.choice(draws), rng.choice(LANGUAGES))


def _draw_name(rng: Random, language: str) -> Episode:
    return draw_recall(rng, language, lambda rng: _draw_between(rng, draw_addition))


def _draw_name_by_heart(rng: Random, language: str) -> Episode:
    return draw_recall(rng, language, lambda rng: _draw_between(rng, draw_addition_by_heart))


KINDS: dict[str, tuple[Draw, tuple[float, float, float, float]]] = {
    "addition-by-heart": (draw_addition_by_heart, (14.0, 24.0, 0.0, 0.0)),
    "subtraction-by-heart": (draw_subtraction_by_heart, (18.0, 30.0, 0.0, 0.0)),
    "count": (draw_count, (5.0, 6.0, 8.0, 12.0)),
    "repeat": (draw_repeat, (12.0, 10.0, 9.0, 8.0)),
    "spell": (draw_spell, (8.0, 6.0, 5.0, 5.0)),
    "colour": (draw_colour, (4.0, 3.0, 3.0, 4.0)),
    "capital": (draw_capital, (4.0, 4.0, 4.0, 4.0)),
    "shape": (draw_shape, (2.0, 1.5, 1.5, 2.0)),
    "yes-no": (draw_yes_no, (6.0, 9.0, 14.0, 8.0)),
    "day": (draw_day, (5.0, 4.0, 5.0, 5.0)),
    "name-by-heart": (_draw_name_by_heart, (6.0, 5.0, 0.0, 0.0)),
    "name-told": (draw_name_told, (1.0, 1.0, 1.0, 1.0)),
    "name-untold": (draw_untold, (2.0, 1.5, 2.0, 2.0)),
    "json-by-heart": (draw_json_by_heart, (10.0, 9.0, 0.0, 0.0)),
    "translation": (draw_translation, (5.0, 6.0, 9.0, 14.0)),
    "drawing": (draw_drawing, (5.0, 7.0, 11.0, 14.0)),
    "identity": (draw_identity, (4.0, 3.0, 5.0, 6.0)),
    "courtesy": (draw_courtesy, (4.0, 4.0, 6.0, 8.0)),
    "unknown": (draw_unknown, (8.0, 8.0, 12.0, 12.0)),
    "addition": (draw_addition, (0.0, 0.0, 9.0, 6.0)),
    "subtraction": (draw_subtraction, (0.0, 0.0, 11.0, 6.0)),
    "json": (draw_json, (0.0, 0.0, 14.0, 10.0)),
    "name": (_draw_name, (0.0, 0.0, 6.0, 4.0)),
}
"""Every kind with its shares of the four stages of training (shares are relative).

Sums are answered by heart in the first two stages, which teaches what numbers are, and worked out from then on: that is
what carries over to sums never seen.
"""

FINAL_KINDS = tuple(kind for kind, (_, shares) in KINDS.items() if shares[-1])
"""What the finished model is asked."""


def is_trained(episode: Episode) -> bool:
    """Whether none of the combinations in `episode` is held out."""
    return not any(is_held_out(key) for exchange in episode for key in exchange.keys)


def _trained(rng: Random, draw: Draw, language: str) -> Episode:
    for _ in range(DRAW_ATTEMPTS):
        episode = draw(rng, language)
        if is_trained(episode):
            return episode
    raise RuntimeError(f"{draw.__name__} drew only held-out combinations in {DRAW_ATTEMPTS} attempts")


def draw_for_training(rng: Random, kind: str, language: str) -> Episode:
    """An episode of `kind` that training may show.

    Raises RuntimeError when none turns up in a bounded number of attempts.
    """
    return _trained(rng, KINDS[kind][0], language)


def draw_held_out(rng: Random, kind: str, language: str) -> Episode:
    """An episode of `kind` whose last exchange is held out.

    Raises RuntimeError when none turns up in a bounded number of attempts.
    """
    for _ in range(DRAW_ATTEMPTS):
        episode = KINDS[kind][0](rng, language)
        if episode[-1].language == language and any(is_held_out(key) for key in episode[-1].keys):
            return episode
    raise RuntimeError(f"no held-out {kind} in {DRAW_ATTEMPTS} attempts")
