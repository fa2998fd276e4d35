"""The first stage of training: the eye learns to tell what covers each patch, before it has a language."""

from __future__ import annotations

import json
import logging
import random
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trenza_recipes.starter_chat.muon import Muon
from trenza_recipes.starter_vision.batches import Pictures, Supplier, pictures_of, scenes_at
from trenza_recipes.starter_vision.drawing import normalised
from trenza_recipes.starter_vision.facts import WIDTH, telling_loss
from trenza_recipes.starter_vision.network import Eye, EyeShape

log = logging.getLogger(__name__)

CHECKPOINT = "seeing.pt"
_SAVE_EVERY_S = 60.0
_LOG_EVERY_S = 20.0


@dataclass(frozen=True)
class Settings:
    """How long and how fast the eye learns; it ends early where a file `stop` appears, with the rate as it is."""

    pictures: int = 110_000
    rising: int = 1_500
    batch: int = 32
    matrix_rate: float = 0.012
    other_rate: float = 1.5e-3
    least_share: float = 0.3
    seed: int = 1

    def rate_at(self, seen: int) -> float:
        """The share of the full learning rate after `seen` pictures."""
        return min(1.0, (seen + 64) / self.rising, max(self.least_share, 1.6 * (1 - seen / self.pictures)))


class Seeing(nn.Module):
    """The eye and the heads with which it tells."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.eye = Eye(shape)
        self.telling = nn.Linear(shape.width, WIDTH)

    def forward(self, pictures: Tensor) -> Tensor:
        """What is told about every patch."""
        told: Tensor = self.telling(self.eye(pictures))
        return told


def optimisers(
    network: nn.Module, matrix_rate: float, other_rate: float, weight_decay: float = 0.02
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for all the rest."""
    named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    inside = [w for name, w in named if w.ndim == 2 and (".blk." in name or ".blocks." in name)]
    chosen = {id(weight) for weight in inside}
    rest = [weight for _, weight in named if id(weight) not in chosen]
    return [
        Muon(inside, matrix_rate, weight_decay=weight_decay),
        torch.optim.AdamW(rest, other_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def learn_to_see(folder: Path, settings: Settings) -> None:
    """Train the eye, from the checkpoint in `folder` if there is one; leave a checkpoint there."""
    torch.manual_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    shape = EyeShape()
    network = Seeing(shape)
    steppers = optimisers(network, settings.matrix_rate, settings.other_rate)
    seen = 0
    if (folder / CHECKPOINT).exists():
        saved = torch.load(folder / CHECKPOINT, weights_only=True)
        network.load_state_dict(saved["network"])
        for stepper, state in zip(steppers, saved["optimisers"], strict=True):
            stepper.load_state_dict(state)
        seen = saved["seen"]

    def make(already: int, rng: random.Random) -> Pictures:
        return pictures_of(scenes_at(already, settings.batch, rng), rng, shape.patch)

    def save() -> None:
        states = [stepper.state_dict() for stepper in steppers]
        part = folder / (CHECKPOINT + ".part")
        torch.save({"network": network.state_dict(), "optimisers": states, "seen": seen}, part)
        part.rename(folder / CHECKPOINT)

    supplier = Supplier(make, settings.seed + seen, seen)
    log.info("seeing from picture %d on; pictures come from process %s", seen, supplier.process_id)
    recent: deque[dict[str, float]] = deque(maxlen=60)
    logged = saved_at = began = time.monotonic()
    first = seen
    while seen < settings.pictures and not (folder / "stop").exists():
        batch = supplier.next()
        for stepper, rate in zip(steppers, (settings.matrix_rate, settings.other_rate), strict=True):
            for group in stepper.param_groups:
                group["lr"] = rate * settings.rate_at(seen)
            stepper.zero_grad()
        loss, right = telling_loss(
            network(torch.from_numpy(normalised(batch.squares))), torch.from_numpy(batch.answers)
        )
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        seen += len(batch.squares)
        supplier.seen.value = seen
        recent.append({"loss": loss.item(), **right})
        now = time.monotonic()
        if now - logged > _LOG_EVERY_S:
            logged = now
            means = {
                name: round(sum(r.get(name, 0) for r in recent) / sum(name in r for r in recent), 3)
                for name in recent[-1]
            }
            log.info("%d seen, %.1f/s: %s", seen, (seen - first) / (now - began), json.dumps(means))
        if now - saved_at > _SAVE_EVERY_S:
            saved_at = now
            save()
    supplier.close()
    save()
