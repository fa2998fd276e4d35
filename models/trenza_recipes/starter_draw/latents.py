"""The latents of starter-draw, which are designed and not learnt: what each cell of a picture holds on average."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trenza_recipes.starter_draw.scenes import random_scene
from trenza_recipes.starter_draw.world import PLACES, Scene, render

PIXELS_PER_LATENT = 8
LATENT_CHANNELS = 4
"""Red, green and blue on average, and how much a cell's pixels differ."""

FORMATS = ((16, 16), (13, 20), (20, 13), (12, 21), (21, 12), (14, 18), (18, 14))
"""Heights and widths in latents: square first, then 3:2, 16:9 and 4:3 both ways."""

_ALONE_SHARE = 0.4
"""Two figures are harder to draw than one, and so get more room in training."""

_MIDDLES = (0.456, 0.264, 0.181, 0.052)
_SPREADS = (0.715, 0.705, 0.78, 0.15)


@dataclass(frozen=True)
class Sample:
    """Some scenes of one format, their pictures, the noise quantiles (n, PLACES) that go with their layout, latents."""

    scenes: list[Scene]
    pictures: NDArray[np.uint8]
    quantiles: Tensor
    latents: Tensor


def latents_of(pictures: NDArray[np.uint8]) -> Tensor:
    """The latents (n, 4, height / 8, width / 8) of pictures (n, height, width, 3), about 0 with deviation 1."""
    count, height, width, _ = pictures.shape
    cell = PIXELS_PER_LATENT
    cells = pictures.reshape(count, height // cell, cell, width // cell, cell, 3).astype(np.float32) / 127.5 - 1
    means = cells.mean((2, 4))
    unrest = np.sqrt(((cells - means[:, :, None, :, None]) ** 2).mean((2, 4, 5)))
    found = np.concatenate([means, unrest[..., None]], -1)
    scaled = (found - np.array(_MIDDLES, np.float32)) / np.array(_SPREADS, np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()


def draw_sample(count: int, size: tuple[int, int], spread: float, rng: random.Random) -> Sample:
    """Fresh pictures, `size` in latents, whose figures stray from the middle of what is possible by at most `spread`."""
    height, width = (side * PIXELS_PER_LATENT for side in size)
    scenes = [random_scene(rng, alone_share=_ALONE_SHARE) for _ in range(count)]
    quantiles = [[rng.random() for _ in range(PLACES)] for _ in scenes]
    pictures = [
        render(scene, width, height, [0.5 + spread * (quantile - 0.5) for quantile in places])
        for scene, places in zip(scenes, quantiles, strict=True)
    ]
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return Sample(scenes, pixels, torch.tensor(quantiles), latents_of(pixels))


def joined(first: Sample, second: Sample) -> Sample:
    """Both samples as one."""
    return Sample(
        first.scenes + second.scenes,
        np.concatenate([first.pictures, second.pictures]),
        torch.cat([first.quantiles, second.quantiles]),
        torch.cat([first.latents, second.latents]),
    )
