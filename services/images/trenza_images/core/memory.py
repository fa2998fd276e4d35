"""How a pipeline is kept in memory: wholly on its device, or by parts; how much is computed at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Offload: TypeAlias = Literal["none", "model", "sequential"]

RESERVE_BYTES = 512 * 2**20
"""Left alone on a GPU, for its driver and for fragments."""
PASS_BYTES_PER_PIXEL = 1500
"""What a UNet of the SDXL class takes for each pixel of each row in half precision, beside its weights."""
DECODE_BYTES_PER_PIXEL = 4500
"""What a VAE takes for each pixel in half precision."""
CODER_WEIGHT = 3
"""The same as a multiple of what the UNet takes."""
TILE_PIXELS = 512 * 512
"""The area that a tiling VAE decodes at once."""
CPU_PASS_PIXELS = 2**20
"""A CPU is busy with this area; more at once makes everybody wait longer and nobody finish earlier."""
_GUIDED_ROWS = 2


@dataclass(frozen=True, slots=True)
class Weights:
    """What a pipeline's parts take in memory, together and the largest of them, in bytes."""

    total_bytes: int
    largest_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pipeline is to run. `full_precision`: numbers of four bytes instead of two."""

    accelerator: bool
    free_bytes: int
    full_precision: bool


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`offload` says what stays on the device between passes, `pass_pixels` bounds the area of one pass."""

    offload: Offload
    attention_slicing: bool
    vae_tiling: bool
    pass_pixels: int


def plan(
    weights: Weights, place: Place, usual_pixels: int, offload: Offload | None = None, pass_pixels: int = 0
) -> MemoryPlan:
    """The fastest way that leaves room for a guided picture of the usual size; the most frugal one where none does.

    `offload` and `pass_pixels` are what the operator wants; None and 0 leave them to the plan.
    """
    scale = 2 if place.full_precision else 1
    pass_bytes = usual_pixels * _GUIDED_ROWS * PASS_BYTES_PER_PIXEL * scale
    decode_bytes = usual_pixels * DECODE_BYTES_PER_PIXEL * scale
    if not place.accelerator:
        tight = place.free_bytes < max(pass_bytes, decode_bytes)
        return MemoryPlan("none", tight, tight, pass_pixels or CPU_PASS_PIXELS)
    tile_bytes = min(usual_pixels, TILE_PIXELS) * DECODE_BYTES_PER_PIXEL * scale
    free_bytes = place.free_bytes - RESERVE_BYTES
    offload = offload or _offload(weights, free_bytes, max(pass_bytes, tile_bytes))
    room_bytes = free_bytes - _resident_bytes(offload, weights)
    return MemoryPlan(
        offload=offload,
        attention_slicing=room_bytes < pass_bytes,
        vae_tiling=room_bytes < decode_bytes,
        pass_pixels=pass_pixels or max(0, room_bytes) // (PASS_BYTES_PER_PIXEL * scale),
    )


def _offload(weights: Weights, free_bytes: int, working_bytes: int) -> Offload:
    if weights.total_bytes + working_bytes <= free_bytes:
        return "none"
    if weights.largest_bytes + working_bytes <= free_bytes:
        return "model"
    return "sequential"


def _resident_bytes(offload: Offload, weights: Weights) -> int:
    match offload:
        case "none":
            return weights.total_bytes
        case "model":
            return weights.largest_bytes
        case "sequential":
            return 0
