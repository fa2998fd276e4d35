"""How many steps, how much guidance, how much of a given picture: what the request says, else the manifest, else the class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FEW_STEPS = 8
"""A model that its makers draw with in so few steps was distilled for it."""
_STRENGTH = 0.8
_INPAINT_STRENGTH = 1.0
_VARIATION_STRENGTH = 0.6
_TURBO_MARKS = ("turbo", "lightning", "hyper-sd", "schnell")
_CLASS_DEFAULTS: Sequence[tuple[str, int, float]] = (("StableDiffusionXL", 40, 5.0), ("StableDiffusion", 50, 7.5))
"""Beginnings of class names, the first that fits counts; StableDiffusion3 has its own signature to go by."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a pipeline shows of itself: its class, its name or path, its scheduler, and its signature's own defaults."""

    pipeline_class: str
    name: str
    scheduler_class: str
    timestep_spacing: str
    signature_steps: int | None
    signature_guidance: float | None


@dataclass(frozen=True, slots=True)
class Usual:
    """Steps and guidance of a model where the request says neither."""

    steps: int
    guidance_scale: float


def usual(traits: Traits, manifest_steps: int | None, manifest_guidance: float | None) -> Usual:
    """What a model is drawn with: the manifest goes first, each value on its own."""
    own = _of_class(traits)
    return Usual(
        own.steps if manifest_steps is None else manifest_steps,
        own.guidance_scale if manifest_guidance is None else manifest_guidance,
    )


def _of_class(traits: Traits) -> Usual:
    if _is_turbo(traits):
        return Usual(4 if "lightning" in traits.name.lower() or "schnell" in traits.name.lower() else 1, 0.0)
    if not traits.pipeline_class.startswith("StableDiffusion3"):
        for beginning, steps, guidance in _CLASS_DEFAULTS:
            if traits.pipeline_class.startswith(beginning):
                return Usual(steps, guidance)
    guidance = 5.0 if traits.signature_guidance is None else traits.signature_guidance
    return Usual(traits.signature_steps or 50, guidance)


def _is_turbo(traits: Traits) -> bool:
    """SD-Turbo and SDXL-Turbo are saved with an ancestral Euler scheduler that counts from the end; others say it in their name."""
    saved_so = traits.scheduler_class == "EulerAncestralDiscreteScheduler" and traits.timestep_spacing == "trailing"
    return saved_so or any(mark in traits.name.lower() for mark in _TURBO_MARKS)


def steps_of(quality: str, usual_steps: int, limit: int) -> int:
    """Steps for a quality: half of the usual ones, the usual ones, or twice as many and at least four."""
    match quality:
        case "low":
            return max(1, usual_steps // 2)
        case "high":
            return min(limit, max(4, 2 * usual_steps))
        case _:
            return usual_steps


def usual_strength(task: str, masked: bool, manifest: float | None, manifest_variation: float | None) -> float:
    """How much of a given picture is redrawn where the request does not say, 0 to 1."""
    if task == "vary":
        return _VARIATION_STRENGTH if manifest_variation is None else manifest_variation
    if masked:
        return _INPAINT_STRENGTH
    return _STRENGTH if manifest is None else manifest


def schedule_length(steps: int, strength: float) -> int:
    """Steps to plan so that at least one is made: of those planned, a pipeline makes the part `strength`, rounded down."""
    least = math.ceil(1 / strength)
    while int(least * strength) < 1:  # what a float makes of one over itself
        least += 1
    return max(steps, least)


def made_steps(planned: int, strength: float) -> int:
    """How many of the planned steps are made when a given picture is redrawn to this part."""
    return max(1, min(int(planned * strength), planned))


def sketch_steps(steps: int, sketches: int) -> tuple[int, ...]:
    """After which steps (from 1) an unfinished picture is shown: evenly spread, never after the last; fewer where steps are few."""
    shown = min(sketches, steps - 1)
    return tuple(round(steps * (number + 1) / (shown + 1)) for number in range(max(0, shown)))
