"""What stays on a device and how much is computed at once, by what is free."""

from __future__ import annotations

import pytest
from trenza_images.core import memory
from trenza_images.core.memory import CPU_PASS_PIXELS, MemoryPlan, Place, Weights, plan

GIB = 2**30
SDXL = Weights(total_bytes=7 * GIB, largest_bytes=5 * GIB)
FLUX = Weights(total_bytes=33 * GIB, largest_bytes=23 * GIB)
FULL_HD = 1024 * 1024


def gpu(free_gib: float, full_precision: bool = False) -> Place:
    return Place(accelerator=True, free_bytes=int(free_gib * GIB), full_precision=full_precision)


@pytest.mark.parametrize(
    ("weights", "place", "offload", "attention_slicing", "vae_tiling"),
    [
        (SDXL, gpu(80), "none", False, False),
        (SDXL, gpu(16), "none", False, False),
        (SDXL, gpu(11), "none", False, True),
        (SDXL, gpu(10), "model", False, False),
        (SDXL, gpu(8.5), "model", False, True),
        (SDXL, gpu(6), "sequential", False, False),
        (SDXL, gpu(3), "sequential", True, True),
        (FLUX, gpu(80), "none", False, False),
        (FLUX, gpu(40), "none", False, False),
        (FLUX, gpu(30), "model", False, False),
        (FLUX, gpu(24), "sequential", False, False),
        (SDXL, Place(accelerator=False, free_bytes=64 * GIB, full_precision=True), "none", False, False),
        (SDXL, Place(accelerator=False, free_bytes=2 * GIB, full_precision=True), "none", True, True),
    ],
)
def test_the_fastest_way_that_fits(
    weights: Weights, place: Place, offload: str, attention_slicing: bool, vae_tiling: bool
) -> None:
    chosen = plan(weights, place, FULL_HD)
    assert (chosen.offload, chosen.attention_slicing, chosen.vae_tiling) == (offload, attention_slicing, vae_tiling)


def test_free_memory_is_the_limit_of_a_pass() -> None:
    small, large = plan(SDXL, gpu(12), FULL_HD), plan(SDXL, gpu(24), FULL_HD)
    assert small.pass_pixels * memory.PASS_BYTES_PER_PIXEL <= 12 * GIB - SDXL.total_bytes
    assert large.pass_pixels > 3 * small.pass_pixels
    assert plan(SDXL, gpu(24, full_precision=True), FULL_HD).pass_pixels == large.pass_pixels // 2


def test_no_room_at_all_still_leaves_a_plan() -> None:
    assert plan(SDXL, gpu(0.2), FULL_HD) == MemoryPlan("sequential", True, True, 0)


def test_a_cpu_takes_no_more_at_once_however_much_is_free() -> None:
    place = Place(accelerator=False, free_bytes=500 * GIB, full_precision=True)
    assert plan(SDXL, place, FULL_HD).pass_pixels == CPU_PASS_PIXELS


def test_what_the_operator_wants_counts() -> None:
    chosen = plan(SDXL, gpu(80), FULL_HD, offload="sequential", pass_pixels=1000)
    assert (chosen.offload, chosen.pass_pixels) == ("sequential", 1000)
    place = Place(accelerator=False, free_bytes=64 * GIB, full_precision=True)
    assert plan(SDXL, place, FULL_HD, pass_pixels=1000).pass_pixels == 1000
