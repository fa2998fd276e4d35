"""Requests share passes, whatever they have in common, and get what they would get alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from studio import TOLERANCE, difference, draw, finish, one, pictures, run, watched_denoiser
from trenza_images.engine import Advanced, Drawn, Picture
from trenza_images.engines.diffusers import DiffusersEngine
from trenza_runtime.worker.engine import EngineFailure

Engines = Callable[[str], DiffusersEngine]


def test_another_family_shares_its_passes_too(engine: Engines) -> None:
    studio = engine("flux")
    wanted = draw("a blue star", seed=5, steps=3, size=(64, 64), sketches=1)
    (alone,) = pictures(one(studio, wanted))
    before = studio.gauges()["passes"]
    events = run(studio, {"wanted": wanted, "other": draw("a red circle", seed=6, steps=2, size=(64, 64))})
    assert difference(pictures(events["wanted"])[0], alone) <= TOLERANCE
    assert studio.gauges()["passes"] - before == 7  # two text encoders, three steps, a sketch, the decoding of both


@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_pictures_are_decoded_together(engine: Engines, name: str) -> None:
    studio = engine(name)
    rows: list[int] = []
    hook = studio._pipelines.root.vae.decoder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        one(studio, draw(steps=2, count=4, size=(64, 64)))
    finally:
        hook.remove()
    assert rows == [4]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_draws_about_the_same(new_engine: Callable[..., DiffusersEngine], precision: str) -> None:
    wanted = draw(seed=4, steps=3, guidance_scale=1.0, sketches=1)
    whole = pictures(one(new_engine("sdxl"), wanted))[0]
    studio = new_engine(
        "sdxl", precision=precision
    )  # its coder widens its numbers now and then, and nothing may stop there
    half = pictures(run(studio, {"wanted": wanted, "other": draw(seed=5, steps=2)})["wanted"])[0]
    assert studio.facts.properties["precision"] == precision
    assert abs(whole - half).mean() < 8


@pytest.mark.parametrize("name", ["sdxl", "sd1"])
def test_requests_that_come_together_take_as_many_passes_as_one(engine: Engines, name: str) -> None:
    studio = engine(name)
    with watched_denoiser(studio) as alone:
        run(studio, {"a": draw(steps=3)})
    with watched_denoiser(studio) as together:
        run(studio, {f"r{number}": draw(seed=number, steps=3) for number in range(5)})
    assert alone == [2, 2, 2]  # guided: one row with the prompt, one without
    assert together == [10, 10, 10]


def test_pictures_of_one_request_share_passes(engine: Engines) -> None:
    studio = engine("sdxl")
    with watched_denoiser(studio) as rows:
        events = one(studio, draw(steps=2, count=4, seed=10))
    assert rows == [8, 8]
    assert [event.seed for event in events if isinstance(event, Picture)] == [10, 11, 12, 13]


def test_who_comes_late_or_wants_another_number_of_steps_joins_on_the_way(engine: Engines) -> None:
    studio = engine("sdxl")
    with watched_denoiser(studio) as rows:
        studio.submit("early", draw(steps=6))
        while len(rows) < 2:
            studio.step()
        studio.submit("late", draw(steps=3, guidance_scale=1.0))
        events = finish(studio)
    assert rows == [2, 2, 3, 3, 3, 2]
    assert all(isinstance(told[-1], Drawn) for told in events.values())


def test_other_sizes_take_turns(engine: Engines) -> None:
    studio = engine("sdxl")
    ended: list[str] = []
    studio.submit("long", draw(steps=20))
    studio.submit("short", draw(steps=4, size=(64, 32)))
    progress = {"long": 0, "short": 0}
    while "short" not in ended:
        for emission in studio.step():
            if isinstance(emission.event, Advanced):
                progress[emission.request_id] = emission.event.step
            if emission.last:
                ended.append(emission.request_id)
    assert 3 <= progress["long"] <= 6  # one for one
    finish(studio)


@pytest.mark.parametrize("name", ["sdxl", "turbo", "sd1"])
def test_a_seed_draws_the_same_picture_whatever_shares_its_passes(engine: Engines, name: str) -> None:
    studio = engine(name)
    wanted = draw("a blue star", seed=5, steps=4)
    (alone,) = pictures(one(studio, wanted))
    company = {
        "same prompt": draw("a blue star", seed=6, steps=4),
        "other steps": draw("un triangulo amarillo", seed=7, steps=2),
        "with a negative prompt": draw("a red circle", seed=8, steps=3, negative_prompt="a star", guidance_scale=3.0),
        "wanted": wanted,
    }
    events = run(studio, company)
    (again,) = pictures(events["wanted"])
    assert difference(alone, again) <= TOLERANCE
    (other,) = pictures(events["same prompt"])
    assert difference(again, other) > 20


def test_picture_i_of_a_request_is_the_one_of_seed_plus_i(engine: Engines) -> None:
    studio = engine("turbo")
    several = pictures(one(studio, draw(seed=40, count=3, steps=2)))
    (third,) = pictures(one(studio, draw(seed=42, steps=2)))
    assert difference(several[2], third) <= TOLERANCE


def test_the_largest_seeds_are_seeds_too(engine: Engines) -> None:
    events = one(engine("turbo"), draw(seed=2**63 - 1, count=2, steps=1))
    assert [event.seed for event in events if isinstance(event, Picture)] == [2**63 - 1, -(2**63)]


def test_more_pictures_than_slots_are_drawn_in_turns(new_engine: Callable[..., DiffusersEngine]) -> None:
    studio = new_engine("turbo", slots=2)
    with watched_denoiser(studio) as rows:
        events = one(studio, draw(steps=1, count=5))
    assert len(pictures(events)) == 5
    assert max(rows) == 2


def test_a_pass_stays_within_the_limit_of_its_area(new_engine: Callable[..., DiffusersEngine]) -> None:
    studio = new_engine("turbo", batch_pixels=3 * 64 * 64)
    with watched_denoiser(studio) as rows:
        one(studio, draw(steps=1, count=8))
    assert rows == [3, 3, 2]


def test_a_cancelled_request_leaves_before_the_next_pass(engine: Engines) -> None:
    studio = engine("sdxl")
    (alone,) = pictures(one(studio, draw(seed=2, steps=5)))
    with watched_denoiser(studio) as rows:
        studio.submit("stays", draw(seed=2, steps=5))
        studio.submit("leaves", draw(seed=3, steps=50, count=3))
        while len(rows) < 2:
            studio.step()
        studio.cancel("leaves")
        events = finish(studio)
    assert rows == [8, 8, 2, 2, 2]
    assert "leaves" not in events
    assert difference(pictures(events["stays"])[0], alone) <= TOLERANCE


def test_cancelling_the_last_one_stops_the_engine_at_once(engine: Engines) -> None:
    studio = engine("sdxl")
    with watched_denoiser(studio) as rows:
        studio.submit("a", draw(steps=50))
        while not rows:
            studio.step()
        studio.cancel("a")
        studio.cancel("never heard of")
        assert not studio.busy
    assert rows == [2]


def test_a_pass_that_does_not_fit_is_split_and_nobody_notices(new_engine: Callable[..., DiffusersEngine]) -> None:
    studio = new_engine("turbo")
    (expected,) = pictures(one(studio, draw(seed=23, steps=2)))

    def no_room_for_more_than_two(rows: int) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with watched_denoiser(studio, no_room_for_more_than_two) as rows:
        events = one(studio, draw(seed=20, steps=2, count=8))
    assert rows == [2] * 8  # and the second step did not even try more
    assert difference(pictures(events)[3], expected) <= TOLERANCE
    assert studio.gauges()["split_passes"] == 3


def test_only_the_picture_that_does_not_fit_alone_fails(new_engine: Callable[..., DiffusersEngine]) -> None:
    studio = new_engine("turbo", batch_pixels=10**6)

    def no_room_for_large_ones(_: int) -> None:
        if large:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    large: list[int] = []
    unet = studio._pipelines.root.unet
    hook = unet.register_forward_pre_hook(lambda _, args: large.append(1) if args[0].shape[-1] > 8 else large.clear())
    try:
        with watched_denoiser(studio, no_room_for_large_ones):
            events = run(studio, {"small": draw(steps=2), "large": draw(steps=2, size=(128, 128))})
    finally:
        hook.remove()
    assert isinstance(events["small"][-1], Drawn)
    failure = events["large"][-1]
    assert isinstance(failure, EngineFailure)
    assert (failure.reason, failure.details["param"]) == ("OUT_OF_MEMORY", "size")


def test_a_pipeline_that_fails_costs_its_own_request_only(engine: Engines) -> None:
    studio = engine("turbo")

    def fail_alone(rows: int) -> None:
        if rows == 1:
            raise ValueError("no such luck")

    with watched_denoiser(studio, fail_alone):
        (failure,) = [event for event in one(studio, draw(steps=2)) if isinstance(event, EngineFailure)]
    assert failure.reason == "INTERNAL"
    assert "no such luck" in failure.message
    assert isinstance(one(studio, draw(steps=1))[-1], Drawn)


def test_what_a_pipeline_refuses_before_it_draws_is_not_supported(engine: Engines) -> None:
    studio = engine("turbo")

    def refuse(*_: object) -> None:
        raise ValueError("`height` and `width` have to be something else")

    hook = studio._pipelines.root.text_encoder.register_forward_pre_hook(refuse)
    try:
        failure = one(studio, draw(steps=2))[-1]
    finally:
        hook.remove()
    assert failure.reason == "UNSUPPORTED"
    assert "have to be something else" in failure.message


def test_a_broken_gpu_breaks_the_engine(new_engine: Callable[..., DiffusersEngine]) -> None:
    studio = new_engine("turbo")

    def break_down(_: int) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    studio.submit("a", draw(steps=1))
    with watched_denoiser(studio, break_down), pytest.raises(RuntimeError, match="CUDA error"):
        finish(studio)


def test_decoding_goes_on_in_tiles_where_memory_runs_out(new_engine: Callable[..., DiffusersEngine]) -> None:
    studio = new_engine("turbo")
    vae = studio._pipelines.copy("text").vae
    (expected,) = pictures(one(studio, draw(steps=1)))
    refused: list[bool] = []

    def only_tiled(*_: object) -> None:
        if not vae.use_tiling:
            refused.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = vae.decoder.register_forward_pre_hook(only_tiled)
    try:
        (drawn,) = pictures(one(studio, draw(steps=1)))
    finally:
        hook.remove()
    assert refused
    assert drawn.shape == expected.shape
