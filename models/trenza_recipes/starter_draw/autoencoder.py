"""The first stage: an autoencoder whose encoder computes the designed latents and whose decoder draws sharply from them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from trenza_recipes.starter_draw.latents import LATENT_CHANNELS, PIXELS_PER_LATENT, latents_of
from trenza_recipes.starter_draw.scenes import random_scene
from trenza_recipes.starter_draw.world import PLACES, render

_CHANNELS = (16, 16, 32, 64)
_POSTERIOR_LOG_VARIANCE = -12.0
_CROP = 64
_CROPS, _WHOLES, _GUESSED = 16, 4, 3
_ENCODER_EVERY = 3
_MOST_LATENT_NOISE = (0.15, 0.15, 0.15, 0.6)
"""Deviations per channel of what the decoder must stand: a drawn latent is never exact, least of all a cell's unrest."""

_STRANGE_SHARE = 0.1
_DECAY = 0.99


def build_autoencoder(side: int) -> AutoencoderKL:
    """An untrained autoencoder of factor 8, whose latents are all but certain."""
    autoencoder = AutoencoderKL(
        block_out_channels=_CHANNELS,
        down_block_types=["DownEncoderBlock2D"] * len(_CHANNELS),
        up_block_types=["UpDecoderBlock2D"] * len(_CHANNELS),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=side,
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )
    with torch.no_grad():
        autoencoder.quant_conv.weight[LATENT_CHANNELS:] = 0
        autoencoder.quant_conv.bias[LATENT_CHANNELS:] = _POSTERIOR_LOG_VARIANCE
    return autoencoder


def as_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """Pictures (n, height, width, 3) in 0..255 as (n, 3, height, width) in -1..1."""
    return torch.from_numpy(pictures).float().permute(0, 3, 1, 2) / 127.5 - 1


def any_picture(side: int, rng: random.Random) -> NDArray[np.uint8]:
    """A picture with figures anywhere; a few are in colours that no word names, so that edits of other pictures survive."""
    picture = np.asarray(render(random_scene(rng), side, side, [rng.random() for _ in range(PLACES)]))
    if rng.random() >= _STRANGE_SHARE:
        return picture
    low, high = sorted((rng.randrange(256), rng.randrange(256)))
    return (low + picture[:, :, rng.sample(range(3), 3)].astype(np.float32) * (high - low) / 255).astype(np.uint8)


Guesses = Callable[[int], tuple[NDArray[np.uint8], Tensor]]
"""Yields so many pictures and the latents from which the decoder is to draw them."""


def train_autoencoder(
    autoencoder: AutoencoderKL,
    folder: Path,
    side: int,
    seconds: float,
    seed: int,
    *,
    cropped_share: float = 0.6,
    rate: float = 2e-3,
    guesses: Guesses | None = None,
) -> AutoencoderKL:
    """Train for `seconds` on crops, then on whole pictures; save smoothed weights in `folder` now and then.

    With `guesses`, what the network has drawn so far is decoded beside the exact latents, so that the decoder learns to draw
    sharply from what is still vague.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    autoencoder.train()
    learning = list(autoencoder.parameters())
    smooth = [parameter.detach().clone() for parameter in learning]
    optimiser = torch.optim.AdamW(learning, rate, betas=(0.9, 0.98), weight_decay=0.0)
    start, step, errors = time.monotonic(), 0, []
    while (share := (time.monotonic() - start) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (1 - share) + 2e-5
        pictures = _batch(side, rng, cropped=share < cropped_share)
        latents = _noisy(latents_of(pictures))
        if guesses is not None:
            guessed, vague = guesses(_GUESSED)
            pictures, latents = np.concatenate([pictures, guessed]), torch.cat([latents, vague])
        errors.append(_learn(autoencoder, optimiser, pictures, latents, with_encoder=step % _ENCODER_EVERY == 0))
        step += 1
        torch._foreach_lerp_(smooth, [p.detach() for p in learning], 1 - min(_DECAY, step / (10 + step)))
        if step % 50 == 0:
            print(step, int(share * seconds), "decibels", round(_decibels(float(np.mean(errors[-50:]))), 2), flush=True)
            _save(autoencoder, learning, smooth, folder)
    _save(autoencoder, learning, smooth, folder)
    torch._foreach_copy_([p.data for p in learning], smooth)
    return autoencoder.eval()


def _batch(side: int, rng: random.Random, *, cropped: bool) -> NDArray[np.uint8]:
    if not cropped:
        return np.stack([any_picture(side, rng) for _ in range(_WHOLES)])
    crops = []
    for _ in range(_CROPS):
        y, x = (rng.randrange(0, side - _CROP + 1, PIXELS_PER_LATENT) for _ in range(2))
        crops.append(any_picture(side, rng)[y : y + _CROP, x : x + _CROP])
    return np.stack(crops)


def _noisy(latents: Tensor) -> Tensor:
    deviations = torch.rand(len(latents), 1, 1, 1) * torch.tensor(_MOST_LATENT_NOISE).view(1, -1, 1, 1)
    return latents + deviations * torch.randn_like(latents)


def _learn(
    autoencoder: AutoencoderKL,
    optimiser: torch.optim.Optimizer,
    pictures: NDArray[np.uint8],
    latents: Tensor,
    *,
    with_encoder: bool,
) -> float:
    """One step; returns the decoder's mean squared error."""
    wanted = as_tensor(pictures)
    rebuilt = autoencoder.decode(latents).sample
    squared = (rebuilt - wanted).pow(2).mean()
    loss = (rebuilt - wanted).abs().mean() + squared
    if with_encoder:
        encoded = autoencoder.quant_conv(autoencoder.encoder(wanted))[:, :LATENT_CHANNELS]
        loss = loss + (encoded - latents_of(pictures)).pow(2).mean()
    optimiser.zero_grad()
    loss.backward()
    if with_encoder:
        autoencoder.quant_conv.weight.grad[LATENT_CHANNELS:] = 0
        autoencoder.quant_conv.bias.grad[LATENT_CHANNELS:] = 0
    torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
    optimiser.step()
    return float(squared.item())


def _decibels(squared_error: float) -> float:
    """Peak signal to noise of pictures in -1..1."""
    return 10 * math.log10(4 / squared_error)


def _save(autoencoder: AutoencoderKL, learning: list[torch.nn.Parameter], smooth: list[Tensor], folder: Path) -> None:
    rough = [parameter.detach().clone() for parameter in learning]
    torch._foreach_copy_([p.data for p in learning], smooth)
    autoencoder.save_pretrained(folder)
    torch._foreach_copy_([p.data for p in learning], rough)
