"""The second stage: the text encoders learn to tell from a prompt what its scene holds, before anything is drawn."""

from __future__ import annotations

import random
import time
from typing import cast

import torch
from torch import Tensor, nn

from trenza_recipes.starter_draw.network import Network
from trenza_recipes.starter_draw.prompts import held_out_prompts, training_prompt
from trenza_recipes.starter_draw.scenes import random_scene
from trenza_recipes.starter_draw.world import COLOURS, SHAPES, Scene

_ARRANGEMENTS = ("alone", "beside", "stacked")
_CHOICES = (len(_ARRANGEMENTS), len(COLOURS), len(SHAPES), len(COLOURS) + 1, len(SHAPES) + 1, len(COLOURS) + 2)
_BATCH = 64
_RATE = 1e-3


class SceneReader(nn.Module):
    """Reads a scene's arrangement, background, shapes and colours off a sentence's vector; only training needs it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.choices = nn.Linear(width, sum(_CHOICES))

    def loss(self, sentence: Tensor, answers: Tensor) -> Tensor:
        """The mean cross entropy of all six answers; `answers` is (scenes, 6)."""
        parts = self.choices(sentence).split(_CHOICES, -1)
        losses = [nn.functional.cross_entropy(part.float(), answers[:, k]) for k, part in enumerate(parts)]
        return torch.stack(losses).mean()

    def right(self, sentence: Tensor, answers: Tensor) -> float:
        """The share of scenes with all six answers right."""
        parts = self.choices(sentence).split(_CHOICES, -1)
        chosen = torch.stack([part.argmax(-1) for part in parts], -1)
        return float((chosen == answers).all(-1).float().mean())


def scene_answers(scenes: list[Scene]) -> Tensor:
    """The six answers of each scene."""
    return torch.tensor([_answers(scene) for scene in scenes])


def _answers(scene: Scene) -> list[int]:
    colours = list(COLOURS)
    answers = [_ARRANGEMENTS.index(scene.arrangement), colours.index(scene.background)]
    for figure in scene.figures:
        colour = len(colours) if figure.colour is None else colours.index(figure.colour)
        answers += [SHAPES.index(figure.shape), colour]
    if len(scene.figures) == 1:
        answers += [len(SHAPES), len(colours) + 1]
    return answers


def teach_reading(network: Network, reader: SceneReader, seconds: float, seed: int) -> None:
    """Train both text encoders for `seconds`, the words' encoder through the last word's vector."""
    rng = random.Random(seed)
    from_words = SceneReader(reader.choices.in_features)
    parameters = [p for module in (network.words, network.sentence, reader, from_words) for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, _RATE, betas=(0.9, 0.98), weight_decay=0.01)
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 100) * (1 - 0.8 * share)
        scenes = [random_scene(rng) for _ in range(_BATCH)]
        tokens = _without_common_padding(network.tokens([training_prompt(scene, rng) for scene in scenes]))
        answers = scene_answers(scenes)
        words, sentence = network.read(tokens)
        last_word = words[:, -1, : sentence.shape[-1]]
        loss = reader.loss(sentence, answers) + 0.2 * from_words.loss(last_word, answers)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            right = held_out_reading(network, reader, 200)
            print(step, int(share * seconds), "loss", round(loss.item(), 4), "held out", right, flush=True)


def _without_common_padding(tokens: Tensor) -> Tensor:
    """The tokens up to the end of the longest prompt; what stands behind it cannot change what is read before."""
    used = int((tokens != tokens[0, -1]).any(0).nonzero().max()) + 2
    return tokens[:, :used]


def held_out_reading(network: Network, reader: SceneReader, count: int) -> float:
    """The share of held-out prompts that are read right."""
    prompts, scenes = zip(*held_out_prompts(count, seed=7), strict=True)
    with torch.no_grad():
        sentence = cast(Tensor, network.read(network.tokens(list(prompts)))[1])
        return reader.right(sentence, scene_answers(list(scenes)))
