"""The third stage: the denoising network learns to draw what the text encoders read, and they learn on with it."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from trenza_recipes.starter_draw.latents import FORMATS, PIXELS_PER_LATENT, draw_sample, joined
from trenza_recipes.starter_draw.network import Network, assemble, build_scheduler
from trenza_recipes.starter_draw.noise import coupled_noise
from trenza_recipes.starter_draw.prompts import training_prompt
from trenza_recipes.starter_draw.reading import SceneReader, scene_answers

_PURE_NOISE = 999
_LATER_STEPS = (749, 499, 249)
_CHANNEL_WEIGHTS = (1.2, 1.2, 1.2, 0.4)
"""The last channel, a cell's unrest, changes with every shift of an edge and would drown what colours have to teach."""


@dataclass(frozen=True)
class DrawingSettings:
    """Everything that decides the third stage; shares are of a batch's pictures."""

    seconds: float = 1_500
    rate: float = 1.2e-3
    reading_rate: float = 0.2
    flat_share: float = 0.25
    batch: int = 32
    pure_noise_share: float = 0.5
    later_steps_share: float = 0.25
    free_share: float = 0.15
    own_guesses_from: float = 0.5
    spread: float = 0.2
    other_formats_share: float = 0.15
    silent_share: float = 0.03
    snapshot_seconds: float = 150
    seed: int = 1


class Drawing:
    """One run of the third stage."""

    def __init__(
        self, autoencoder: AutoencoderKL, network: Network, reader: SceneReader, settings: DrawingSettings
    ) -> None:
        self._autoencoder, self._network, self._reader, self._settings = autoencoder, network, reader, settings
        self._rng = random.Random(settings.seed)
        self._signal = build_scheduler().alphas_cumprod
        self._drawn = [p for module in network.modules() for p in module.parameters()]
        self._smooth = [p.detach().clone() for p in self._drawn]
        self._reading = [p for module in (network.words, network.sentence, reader) for p in module.parameters()]
        groups = [{"params": list(network.unet.parameters())}, {"params": self._reading}]
        self._optimiser = torch.optim.AdamW(groups, settings.rate, betas=(0.9, 0.99), weight_decay=0.01)

    def run(self, folder: Path) -> None:
        """Train, and save a pipeline in `folder` every now and then and at the end, from smoothed weights."""
        settings = self._settings
        start, step, snapshots, losses = time.monotonic(), 0, 0, []
        print("drawing starts", flush=True)
        while (share := (time.monotonic() - start) / settings.seconds) < 1:
            losses.append(self._step(step, share))
            step += 1
            if step % 50 == 0:
                means = [round(float(x), 4) for x in torch.tensor(losses[-50:]).nanmean(0)]
                print(step, int(share * settings.seconds), "pure later rest text", means, flush=True)
            if share * settings.seconds > (snapshots + 1) * settings.snapshot_seconds:
                snapshots += 1
                self._save(folder)
        self._save(folder)
        torch._foreach_copy_([p.data for p in self._drawn], self._smooth)

    def _step(self, step: int, share: float) -> list[float]:
        settings = self._settings
        warm, fall = min(1, (step + 1) / 100), max(0.0, (share - settings.flat_share) / (1 - settings.flat_share))
        for group, part in zip(self._optimiser.param_groups, (1.0, settings.reading_rate), strict=True):
            group["lr"] = part * settings.rate * warm * max(0.02, 0.5 * (1 + math.cos(math.pi * fall)))
        size = FORMATS[0] if self._rng.random() > settings.other_formats_share else self._rng.choice(FORMATS[1:])
        losses, loss = self._losses(size, share)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.unet.parameters(), 1.0)
        nn.utils.clip_grad_norm_(self._reading, 1.0)
        self._optimiser.step()
        decay = min(0.995, (1 + step) / (20 + step))
        torch._foreach_lerp_(self._smooth, [p.detach() for p in self._drawn], 1 - decay)
        return losses

    def _losses(self, size: tuple[int, int], share: float) -> tuple[list[float], Tensor]:
        settings = self._settings
        pure, later = (
            round(settings.batch * settings.pure_noise_share),
            round(settings.batch * settings.later_steps_share),
        )
        free = round(settings.batch * settings.free_share)
        sample = joined(
            draw_sample(settings.batch - free, size, settings.spread, self._rng),
            draw_sample(free, size, 1.0, self._rng),
        )
        noise = coupled_noise(sample.quantiles, *size)
        noise[-free:] = torch.randn_like(noise[-free:])
        times = torch.randint(0, 1000, (settings.batch,))
        times[:pure] = _PURE_NOISE
        times[pure : pure + later] = torch.tensor(_LATER_STEPS)[torch.randint(0, 3, (later,))]
        times[-free:] = times[-free:] * 9 // 10
        tokens = self._network.tokens([training_prompt(scene, self._rng) for scene in sample.scenes])
        silent = torch.rand(settings.batch) < settings.silent_share
        words, sentence = self._network.read(tokens)
        text_loss = self._reader.loss(sentence, scene_answers(sample.scenes))
        words = words.masked_fill(silent[:, None, None], 0)
        sentence = sentence.masked_fill(silent[:, None], 0)
        conditions = (words, sentence, self._sizes(size, settings.batch))
        clean = sample.latents
        start = clean.clone()
        if share > settings.own_guesses_from:
            chosen = slice(pure, pure + later)
            start[chosen] = self._guess(noise[chosen], [part[chosen] for part in conditions])
        signal = self._signal[times].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * start + (1 - signal).sqrt() * noise
        # The velocity from which the scheduler gets back the true picture, also where a guess stands for it.
        velocity = (signal.sqrt() * noisy - clean) / (1 - signal).sqrt()
        answer = self._predict(noisy, times, conditions)
        weights = torch.tensor(_CHANNEL_WEIGHTS).view(1, -1, 1, 1)
        errors = ((answer - velocity).pow(2) * (1 - signal).clamp(min=0.25) * weights).mean((1, 2, 3))
        loss = errors.mean() + 0.3 * text_loss
        parts = (errors[:pure], errors[pure : pure + later], errors[pure + later :])
        return [*(float(part.detach().mean()) for part in parts), text_loss.item()], loss

    def _guess(self, noise: Tensor, conditions: list[Tensor]) -> Tensor:
        """What the network itself draws in one step."""
        with torch.no_grad():
            return -self._predict(noise, torch.full((len(noise),), _PURE_NOISE), tuple(conditions))

    def _predict(self, noisy: Tensor, times: Tensor, conditions: tuple[Tensor, ...]) -> Tensor:
        words, sentence, sizes = conditions
        added = {"text_embeds": sentence, "time_ids": sizes}
        answer: Tensor = self._network.unet(noisy, times, words, added_cond_kwargs=added).sample
        return answer

    def _sizes(self, size: tuple[int, int], count: int) -> Tensor:
        """The sizes the pipeline tells the network: mostly those it passes by itself, now and then any."""
        height, width = (float(side * PIXELS_PER_LATENT) for side in size)
        sizes = torch.tensor([height, width, 0.0, 0.0, height, width]).repeat(count, 1)
        other = torch.rand(count) < 0.3
        asked = torch.randint(8, 129, (count, 2)) * 8.0
        cropped = torch.rand(count, 2) * 64 * (torch.rand(count, 1) < 0.3)
        sizes[other] = torch.cat([asked, cropped, asked], 1)[other]
        return sizes

    def _save(self, folder: Path) -> None:
        rough = [p.detach().clone() for p in self._drawn]
        torch._foreach_copy_([p.data for p in self._drawn], self._smooth)
        assemble(self._autoencoder, self._network).save_pretrained(folder / "pipeline")
        torch.save(self._reader.state_dict(), folder / "reader.pt")
        torch._foreach_copy_([p.data for p in self._drawn], rough)
