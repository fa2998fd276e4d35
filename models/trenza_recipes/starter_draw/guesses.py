"""What a trained network draws, beside the pictures that it should have drawn: what the decoder is refined on."""

from __future__ import annotations

import random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trenza_recipes.starter_draw.autoencoder import Guesses
from trenza_recipes.starter_draw.latents import FORMATS, PIXELS_PER_LATENT, draw_sample
from trenza_recipes.starter_draw.network import Network, build_scheduler
from trenza_recipes.starter_draw.noise import coupled_noise
from trenza_recipes.starter_draw.prompts import training_prompt

_STEPS = (1, 1, 2, 4)


def guesses_of(network: Network, spread: float, seed: int) -> Guesses:
    """Square pictures with the latents that `network` draws for them in one, two or four steps.

    The noise decides the layout, so that picture and latents agree as far as the network has learnt to draw.
    """
    rng = random.Random(seed)
    size = FORMATS[0]

    def guess(count: int) -> tuple[NDArray[np.uint8], Tensor]:
        sample = draw_sample(count, size, spread, rng)
        prompts = [training_prompt(scene, rng) for scene in sample.scenes]
        noise = coupled_noise(sample.quantiles, *size)
        return sample.pictures, draw_latents(network, prompts, noise, rng.choice(_STEPS))

    return guess


def draw_latents(network: Network, prompts: list[str], noise: Tensor, steps: int) -> Tensor:
    """The latents (n, 4, height, width) that come of `noise`, as the pipeline makes them without guidance."""
    height, width = (float(side * PIXELS_PER_LATENT) for side in noise.shape[-2:])
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        words, sentence = network.read(network.tokens(prompts))
        sizes = torch.tensor([height, width, 0.0, 0.0, height, width]).repeat(len(prompts), 1)
        latents = noise
        for time in scheduler.timesteps:
            added = {"text_embeds": sentence, "time_ids": sizes}
            velocity = network.unet(latents, time, words, added_cond_kwargs=added).sample
            latents = scheduler.step(velocity, time, latents).prev_sample
    return latents
