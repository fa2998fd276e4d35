"""Which sizes can be drawn, and at which size that is done."""

from __future__ import annotations

import pytest
from trenza_images.core.sizes import Size, SizeError, SizePlan, SizeRules, plan_generated, plan_redrawn, scaled

FREE = SizeRules(usual=(512, 512), multiple=8, native=None, min_side=16, max_side=2048, max_pixels=1024 * 1024)
BOUND = SizeRules(usual=(256, 256), multiple=8, native=128, min_side=16, max_side=2048, max_pixels=1024 * 1024)


@pytest.mark.parametrize(
    ("asked", "rules", "drawn", "shown"),
    [
        (None, FREE, (512, 512), (512, 512)),
        ((640, 360), FREE, (640, 360), (640, 360)),
        (None, BOUND, (128, 128), (256, 256)),
        ((512, 512), BOUND, (128, 128), (512, 512)),
        ((1024, 512), BOUND, (184, 88), (1024, 512)),
        ((333, 17), BOUND, (568, 32), (333, 17)),
    ],
)
def test_sizes_of_pictures_from_a_text(asked: Size | None, rules: SizeRules, drawn: Size, shown: Size) -> None:
    assert plan_generated(asked, rules) == SizePlan(drawn, shown)


@pytest.mark.parametrize(
    ("asked", "rules", "complaint"),
    [
        ((7, 7), FREE, "between 16 and 2048, not 7x7"),
        ((100_000, 100_000), FREE, "between 16 and 2048"),
        ((2048, 1024), FREE, "at most 1048576 pixels"),
        ((500, 512), FREE, "multiples of 8, and 500x512 is not"),
        ((7, 7), BOUND, "between 16 and 2048"),
    ],
)
def test_impossible_sizes_say_what_is_possible(asked: Size, rules: SizeRules, complaint: str) -> None:
    with pytest.raises(SizeError, match=complaint):
        plan_generated(asked, rules)


@pytest.mark.parametrize(
    ("asked", "source", "rules", "drawn", "shown"),
    [
        (None, (512, 512), FREE, (512, 512), (512, 512)),
        (None, (301, 203), FREE, (304, 200), (301, 203)),  # as it is, to the nearest size that can be drawn
        (None, (1000, 800), FREE, (576, 456), (1000, 800)),  # drawn no larger than the model was made for
        (None, (4000, 3000), FREE, (592, 440), (1182, 887)),  # shown no larger than is allowed
        (None, (10, 20), FREE, (16, 32), (16, 32)),
        ((640, 360), (10, 20), FREE, (640, 360), (640, 360)),
        (None, (300, 200), BOUND, (160, 104), (300, 200)),
    ],
)
def test_sizes_of_pictures_after_another(
    asked: Size | None, source: Size, rules: SizeRules, drawn: Size, shown: Size
) -> None:
    assert plan_redrawn(asked, source, rules) == SizePlan(drawn, shown)


def test_a_source_of_impossible_proportions_is_refused() -> None:
    with pytest.raises(SizeError):
        plan_redrawn(None, (4000, 1), FREE)


def test_scaled_sizes_never_vanish() -> None:
    assert scaled((4096, 16), 128 * 128, 8) == (2048, 8)
