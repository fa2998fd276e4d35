"""Draws held-out prompts with a saved pipeline and counts how many pictures are right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoPipelineForText2Image
from PIL import Image

from trenza_recipes.starter_draw.judging import Verdict, judge
from trenza_recipes.starter_draw.prompts import held_out_prompts
from trenza_recipes.starter_draw.world import Scene

_BATCH = 16
_SHEET_COLUMNS = 10
_SHEET_ROWS = 10


@dataclass(frozen=True, slots=True)
class Drawn:
    """One prompt, what it drew and how that was judged."""

    prompt: str
    language: str
    scene: Scene
    picture: Image.Image
    verdict: Verdict


def evaluate(
    folder: Path, count: int, seed: int, steps: tuple[int, ...], sides: tuple[int, int], sheet: Path | None, shown: int
) -> dict[int, float]:
    """Draw and judge `count` held-out prompts at each number of steps, print a table, and return the shares right.

    `sides` are the height and width at which the pipeline draws. With `sheet` the first pictures are saved as one, the
    wrong ones framed in red; `shown` wrong prompts are printed.
    """
    torch.set_num_threads(1)
    pipeline = AutoPipelineForText2Image.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    shares = {}
    for number in steps:
        drawn = _draw(pipeline, held_out_prompts(count, seed), number, sides, seed)
        shares[number] = _right(drawn)
        _report(number, drawn, shown)
        if sheet is not None:
            _contact_sheet(drawn).save(sheet.with_stem(f"{sheet.stem}-{number}"))
    return shares


def _draw(
    pipeline: AutoPipelineForText2Image, prompts: list[tuple[str, Scene]], steps: int, sides: tuple[int, int], seed: int
) -> list[Drawn]:
    drawn = []
    for first in range(0, len(prompts), _BATCH):
        part = prompts[first : first + _BATCH]
        generators = [torch.Generator().manual_seed(seed * 100_000 + first + k) for k in range(len(part))]
        pictures = pipeline(
            [prompt for prompt, _ in part],
            num_inference_steps=steps,
            guidance_scale=0.0,
            height=sides[0],
            width=sides[1],
            generator=generators,
        ).images
        for k, ((prompt, scene), picture) in enumerate(zip(part, pictures, strict=True)):
            drawn.append(Drawn(prompt, ("en", "es")[(first + k) % 2], scene, picture, judge(picture, scene)))
    return drawn


def _right(drawn: list[Drawn]) -> float:
    return sum(one.verdict.right for one in drawn) / max(1, len(drawn))


def _report(steps: int, drawn: list[Drawn], shown: int) -> None:
    groups = {
        "English": [one for one in drawn if one.language == "en"],
        "Spanish": [one for one in drawn if one.language == "es"],
        "one figure": [one for one in drawn if len(one.scene.figures) == 1],
        "two figures": [one for one in drawn if len(one.scene.figures) == 2],
    }
    parts = ", ".join(f"{name} {_right(group):.1%} of {len(group)}" for name, group in groups.items())
    print(f"{steps} steps: {_right(drawn):.1%} right; {parts}")
    print("  wrong:", dict(Counter(one.verdict.problem for one in drawn if not one.verdict.right)))
    for one in [one for one in drawn if not one.verdict.right][:shown]:
        seen = [(figure.colour, figure.shape) for figure in one.verdict.figures]
        print(f"  {one.verdict.problem}: {one.prompt!r} showed {seen} on {one.verdict.background}")


def _contact_sheet(drawn: list[Drawn]) -> Image.Image:
    width, height = drawn[0].picture.size
    sheet = Image.new("RGB", (_SHEET_COLUMNS * (width + 6), _SHEET_ROWS * (height + 6)), (128, 128, 128))
    for k, one in enumerate(drawn[: _SHEET_COLUMNS * _SHEET_ROWS]):
        frame = Image.new("RGB", (width + 6, height + 6), (128, 128, 128) if one.verdict.right else (255, 0, 0))
        frame.paste(one.picture, (3, 3))
        sheet.paste(frame, (k % _SHEET_COLUMNS * frame.width, k // _SHEET_COLUMNS * frame.height))
    return sheet
