"""Which part of a speed a voice speaks by itself, and which part its finished sound is stretched by."""

from __future__ import annotations

from typing import NamedTuple


class Speed(NamedTuple):
    """Both parts; their product is the speed that was asked for."""

    spoken: float
    stretch: float


def divide_speed(speed: float, slowest: float, fastest: float) -> Speed:
    """What a voice that speaks between `slowest` and `fastest` does of `speed`. Raises ValueError unless all are above 0."""
    if not 0 < slowest <= fastest or speed <= 0:
        raise ValueError("speeds must be above 0")
    spoken = min(max(speed, slowest), fastest)
    return Speed(spoken, speed / spoken)
