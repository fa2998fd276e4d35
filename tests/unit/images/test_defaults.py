"""How many steps and how much guidance, where nobody says."""

from __future__ import annotations

import pytest
from trenza_images.core import defaults
from trenza_images.core.defaults import Traits, Usual


def traits(
    pipeline: str = "StableDiffusionXLPipeline",
    name: str = "/models/base",
    scheduler: str = "EulerDiscreteScheduler",
    spacing: str = "leading",
    steps: int | None = 50,
    guidance: float | None = 5.0,
) -> Traits:
    return Traits(pipeline, name, scheduler, spacing, steps, guidance)


@pytest.mark.parametrize(
    ("shown", "usual"),
    [
        (traits(), Usual(40, 5.0)),
        (traits("StableDiffusionPipeline", guidance=7.5), Usual(50, 7.5)),
        (traits(name="stabilityai/sdxl-turbo"), Usual(1, 0.0)),
        (traits(scheduler="EulerAncestralDiscreteScheduler", spacing="trailing"), Usual(1, 0.0)),
        (traits(scheduler="EulerAncestralDiscreteScheduler"), Usual(40, 5.0)),
        (traits(name="ByteDance/SDXL-Lightning"), Usual(4, 0.0)),
        (traits("FluxPipeline", "black-forest-labs/FLUX.1-dev", steps=28, guidance=3.5), Usual(28, 3.5)),
        (traits("FluxPipeline", "black-forest-labs/FLUX.1-schnell", steps=28, guidance=3.5), Usual(4, 0.0)),
        (traits("StableDiffusion3Pipeline", steps=28, guidance=7.0), Usual(28, 7.0)),
        (traits("UnheardOfPipeline", steps=None, guidance=None), Usual(50, 5.0)),
    ],
)
def test_a_pipelines_class_and_name_decide(shown: Traits, usual: Usual) -> None:
    assert defaults.usual(shown, None, None) == usual


def test_the_manifest_goes_before_the_class_value_by_value() -> None:
    assert defaults.usual(traits(), 7, None) == Usual(7, 5.0)
    assert defaults.usual(traits(), None, 0.0) == Usual(40, 0.0)


@pytest.mark.parametrize(
    ("quality", "usual", "steps"),
    [
        ("auto", 30, 30),
        ("low", 30, 15),
        ("medium", 30, 30),
        ("high", 30, 60),
        ("high", 150, 200),
        ("low", 1, 1),
        ("medium", 1, 1),
        ("high", 1, 4),
    ],
)
def test_a_quality_is_a_number_of_steps(quality: str, usual: int, steps: int) -> None:
    assert defaults.steps_of(quality, usual, limit=200) == steps


@pytest.mark.parametrize("strength", [0.02, 0.1, 0.29, 0.3, 1 / 3, 0.49, 0.5, 0.7, 0.999, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 30])
def test_some_step_is_always_made(steps: int, strength: float) -> None:
    planned = defaults.schedule_length(steps, strength)
    assert planned >= steps
    assert int(planned * strength) >= 1
    assert defaults.made_steps(planned, strength) == int(planned * strength)


@pytest.mark.parametrize(
    ("task", "masked", "strength"), [("edit", False, 0.8), ("edit", True, 1.0), ("vary", False, 0.6)]
)
def test_how_much_is_redrawn(task: str, masked: bool, strength: float) -> None:
    assert defaults.usual_strength(task, masked, None, None) == strength


def test_a_manifest_says_how_much_is_redrawn() -> None:
    assert defaults.usual_strength("edit", False, 0.5, 0.4) == 0.5
    assert defaults.usual_strength("vary", False, 0.5, 0.4) == 0.4
    assert defaults.usual_strength("edit", True, 0.5, 0.4) == 1.0


@pytest.mark.parametrize(
    ("steps", "sketches", "after"),
    [(4, 3, (1, 2, 3)), (50, 3, (12, 25, 38)), (5, 3, (1, 2, 4)), (2, 3, (1,)), (1, 3, ()), (30, 0, ()), (10, 1, (5,))],
)
def test_sketches_are_spread_evenly(steps: int, sketches: int, after: tuple[int, ...]) -> None:
    assert defaults.sketch_steps(steps, sketches) == after


def test_no_step_has_two_sketches_and_the_last_has_none() -> None:
    for steps in range(1, 60):
        for sketches in range(4):
            after = defaults.sketch_steps(steps, sketches)
            assert len(set(after)) == len(after) == min(sketches, steps - 1)
            assert all(0 < step < steps for step in after)
