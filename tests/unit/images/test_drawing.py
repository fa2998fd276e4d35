"""What comes of a single request: sizes, sketches, encodings, prompts, and pictures drawn after others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio import difference, draw, file_of, one, opened, pictures, pixels, sketches, watched_denoiser
from trenza_images.engine import Advanced, Drawn, DrawRequest, Encoding, ModelDefaults
from trenza_images.engines.diffusers import DiffusersEngine
from trenza_runtime.worker.engine import EngineFailure

Engines = Callable[[str], DiffusersEngine]


def checkered(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture of which every part can be told from every other."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))


def left_half_transparent(size: tuple[int, int] = (64, 64)) -> Image.Image:
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return mask


def edit(source: Image.Image | bytes, mask: Image.Image | bytes | None = None, **fields: Any) -> DrawRequest:
    files: list[Any] = [file_of(given) if isinstance(given, Image.Image) else given for given in (source, mask)]
    return DrawRequest(task="edit", prompt="a red circle", seed=1, sources=(files[0],), mask=files[1], **fields)


def refusal(events: list[Any]) -> tuple[str, str]:
    """Reason and parameter of the failure that is all that happened."""
    (failure,) = events
    assert isinstance(failure, EngineFailure)
    return failure.reason, failure.details["param"]


def test_a_request_tells_its_progress_and_its_end(engine: Engines) -> None:
    events = one(engine("sdxl"), draw(steps=4, count=2))
    told = [event for event in events if isinstance(event, Advanced)]
    assert [event.fraction for event in told] == [0.25, 0.5, 0.75, 1.0]
    assert [event.step for event in told] == [2, 4, 6, 8]
    end = events[-1]
    assert isinstance(end, Drawn)
    assert (end.count, end.size, end.steps, end.quality) == (2, (64, 64), 4, "medium")


@pytest.mark.parametrize(("steps", "asked", "shown"), [(4, 3, [0, 1, 2]), (2, 3, [0]), (1, 3, []), (4, 0, [])])
def test_sketches_come_on_the_way(engine: Engines, steps: int, asked: int, shown: list[int]) -> None:
    found = sketches(one(engine("sdxl"), draw(steps=steps, sketches=asked)))
    assert [sketch.number for sketch in found] == shown
    assert all(opened(sketch.data).size == (64, 64) for sketch in found)


def test_the_last_sketch_resembles_the_picture_more_than_the_first(engine: Engines) -> None:
    events = one(engine("sdxl"), draw(steps=12, sketches=3, guidance_scale=1.0))
    (picture,) = pictures(events)
    first, _, last = [pixels(sketch.data) for sketch in sketches(events)]
    assert abs(last - picture).mean() < abs(first - picture).mean()


def test_sketches_do_not_change_the_picture(engine: Engines) -> None:
    studio = engine("turbo")
    (plain,) = pictures(one(studio, draw(steps=4)))
    (watched,) = pictures(one(studio, draw(steps=4, sketches=2)))
    assert difference(plain, watched) == 0


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        (Encoding("png"), "PNG"),
        (Encoding("jpeg", 80), "JPEG"),
        (Encoding("jpeg", 0), "JPEG"),
        (Encoding("webp", 50), "WEBP"),
    ],
)
def test_pictures_are_encoded_as_asked(engine: Engines, encoding: Encoding, kind: str) -> None:
    events = one(engine("turbo"), draw(steps=1, encoding=encoding))
    (data,) = [event.data for event in events if hasattr(event, "seed")]
    assert opened(data).format == kind


def test_compression_makes_files_smaller(engine: Engines) -> None:
    sizes = [
        len(one(engine("turbo"), draw(steps=1, encoding=Encoding("jpeg", quality)))[-2].data) for quality in (10, 95)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(("size", "param"), [((7, 7), "size"), ((100_000, 100_000), "size"), ((60, 64), "size")])
def test_impossible_sizes_are_refused(engine: Engines, size: tuple[int, int], param: str) -> None:
    assert refusal(one(engine("sdxl"), draw(size=size))) == ("INVALID_ARGUMENT", param)


def test_other_sizes_are_drawn_as_asked(engine: Engines) -> None:
    (picture,) = pictures(one(engine("turbo"), draw(steps=1, size=(96, 48))))
    assert picture.shape == (48, 96, 3)


def test_a_native_size_is_what_is_drawn_and_the_asked_size_what_is_shown(
    new_engine: Callable[..., DiffusersEngine],
) -> None:
    studio = new_engine("turbo", defaults=ModelDefaults(steps=1, native_size=32, size=(100, 100)))
    shapes: list[tuple[int, int]] = []
    unet = studio._pipelines.root.unet
    hook = unet.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[-2:])))
    try:
        shown = [pictures(one(studio, draw(size=size)))[0].shape for size in (None, (256, 64), (33, 47))]
    finally:
        hook.remove()
    assert shown == [(100, 100, 3), (64, 256, 3), (47, 33, 3)]
    assert shapes == [(4, 4), (2, 8), (5, 3)]


def test_qualities_are_steps(engine: Engines) -> None:
    studio = engine("sdxl")  # three steps, says its manifest
    steps = [one(studio, draw(quality=quality))[-1].steps for quality in ("low", "medium", "auto", "high")]
    assert steps == [1, 3, 3, 6]


def test_what_is_cut_off_a_long_prompt_is_told(engine: Engines) -> None:
    words = [f"w{number}" for number in range(10_000)]
    end = one(engine("turbo"), draw(" ".join(words), steps=1))[-1]
    assert isinstance(end, Drawn)
    assert end.prompt_tokens == 14  # of 16, with a beginning and an end
    assert end.truncated_prompt.endswith("w9998 w9999")
    assert len(end.truncated_prompt) > 50_000


def test_nothing_is_cut_off_a_short_prompt(engine: Engines) -> None:
    end = one(engine("turbo"), draw("a red circle", steps=1))[-1]
    assert (end.prompt_tokens, end.truncated_prompt) == (3, "")


def test_a_negative_prompt_matters_under_guidance(engine: Engines) -> None:
    studio = engine("sdxl")
    (plain,) = pictures(one(studio, draw(steps=2)))
    (other,) = pictures(one(studio, draw(steps=2, negative_prompt="a star")))
    assert difference(plain, other) > 0


def test_transparent_backgrounds_are_refused(engine: Engines) -> None:
    assert refusal(one(engine("turbo"), draw(transparent=True))) == ("UNSUPPORTED", "background")


@pytest.mark.parametrize("name", ["sdxl", "sd1", "turbo"])
def test_an_edit_starts_from_the_given_picture(engine: Engines, name: str) -> None:
    studio = engine(name)
    (faint,) = pictures(one(studio, edit(checkered(), strength=0.1, steps=20)))
    (strong,) = pictures(one(studio, edit(checkered(), strength=1.0, steps=20)))
    assert faint.shape == (64, 64, 3)
    assert difference(faint, strong) > 0


def test_an_edit_without_a_size_is_as_large_as_its_source(engine: Engines) -> None:
    end = one(engine("turbo"), edit(checkered((90, 50)), steps=2))[-1]
    assert end.size == (90, 50)


def test_an_edit_has_the_size_that_is_asked_for(engine: Engines) -> None:
    (picture,) = pictures(one(engine("turbo"), edit(checkered((90, 50)), steps=2, size=(128, 64))))
    assert picture.shape == (64, 128, 3)


@pytest.mark.parametrize(("steps", "strength", "passes"), [(1, 0.5, 1), (1, 0.3, 1), (10, 0.5, 5), (4, 1.0, 4)])
def test_few_steps_and_little_strength_make_one_step_at_least(
    engine: Engines, steps: int, strength: float, passes: int
) -> None:
    studio = engine("turbo")
    with watched_denoiser(studio) as rows:
        end = one(studio, edit(checkered(), steps=steps, strength=strength))[-1]
    assert len(rows) == passes
    assert end.steps == passes


@pytest.mark.parametrize("name", ["sdxl", "sd1", "turbo", "fill"])
def test_what_a_mask_leaves_out_stays_exactly_as_it_was(engine: Engines, name: str) -> None:
    source = checkered()
    (picture,) = pictures(one(engine(name), edit(source, left_half_transparent(), steps=2)))
    before = np.asarray(source).astype(int)
    assert difference(picture[:, 32:], before[:, 32:]) == 0
    assert difference(picture[:, :32], before[:, :32]) > 20


def test_a_mask_without_transparency_is_white_where_to_redraw(engine: Engines) -> None:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 64, 32))
    (picture,) = pictures(one(engine("turbo"), edit(checkered(), mask, steps=2)))
    before = np.asarray(checkered()).astype(int)
    assert difference(picture[32:], before[32:]) == 0
    assert difference(picture[:32], before[:32]) > 20


def test_a_mask_of_another_size_is_refused(engine: Engines) -> None:
    events = one(engine("turbo"), edit(checkered(), left_half_transparent((64, 32))))
    assert refusal(events) == ("INVALID_ARGUMENT", "mask")
    assert "64x32" in events[0].message


def test_several_sources_are_refused(engine: Engines) -> None:
    source = file_of(checkered())
    request = DrawRequest(task="edit", prompt="a star", seed=1, sources=(source, source))
    assert refusal(one(engine("turbo"), request)) == ("INVALID_ARGUMENT", "image")


def test_a_variation_needs_no_prompt_and_differs_by_seed(engine: Engines) -> None:
    source = file_of(checkered())
    request = DrawRequest(task="vary", prompt="", seed=1, sources=(source,), count=2, steps=2)
    first, second = pictures(one(engine("turbo"), request))
    assert difference(first, second) > 0


def test_a_pipeline_that_only_fills_gaps_says_so(engine: Engines) -> None:
    studio = engine("fill")
    assert refusal(one(studio, draw())) == ("UNSUPPORTED", "model")
    assert refusal(one(studio, edit(checkered()))) == ("UNSUPPORTED", "model")
    assert studio.facts.properties["modes"] == "inpaint"


def test_a_transparent_source_is_seen_on_white(engine: Engines) -> None:
    studio = engine("turbo")
    clear, white = Image.new("RGBA", (64, 64), (0, 0, 0, 0)), Image.new("RGB", (64, 64), "white")
    (one_, other) = (pictures(one(studio, edit(source, steps=2)))[0] for source in (clear, white))
    assert difference(one_, other) == 0


def test_edits_and_drawings_share_passes(engine: Engines) -> None:
    studio = engine("turbo")
    with watched_denoiser(studio) as rows:
        studio.submit("edit", edit(checkered(), steps=2, strength=1.0))
        studio.submit("draw", draw(steps=2))
        while studio.busy:
            studio.step()
    assert rows == [2, 2]
