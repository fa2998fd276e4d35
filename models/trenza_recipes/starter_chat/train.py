"""Training from scratch on the processor: the settings, the schedule and the checkpoint."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from trenza_recipes.starter_chat.batches import training_batches
from trenza_recipes.starter_chat.model import Network, Shape
from trenza_recipes.starter_chat.monitor import held_out_accuracy
from trenza_recipes.starter_chat.muon import Muon
from trenza_recipes.starter_chat.number_start import place_numbers
from trenza_recipes.starter_chat.threads import Threads
from trenza_recipes.starter_chat.tokenizer import Tokenizer, build


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run yields."""

    steps: int = 2_600
    batch_tokens: int = 6_144
    warm_up_steps: int = 100
    decay_share: float = 0.5
    matrix_rate: float = 0.02
    vector_rate: float = 0.003
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    report_steps: int = 100
    seed: int = 2024
    threads: int = 2


def rate_factor(step: int, settings: Settings) -> float:
    """The share of the learning rate at `step`: a short rise, a plateau, a straight fall to zero."""
    falling = settings.steps * settings.decay_share
    return min(1.0, (step + 1) / settings.warm_up_steps, (settings.steps - step) / falling)


def make_optimisers(network: Network, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embedding and norms."""
    matrices = [weight for weight in network.blocks.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in network.parameters() if id(weight) not in chosen]
    return [
        Muon(matrices, lr=settings.matrix_rate, weight_decay=settings.weight_decay),
        torch.optim.AdamW(others, lr=settings.vector_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Trainer:
    """A network, its optimisers and what they have seen so far."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.tokenizer: Tokenizer = build()
        self.shape = Shape(vocabulary=len(self.tokenizer.tokens))
        self.network = Network(self.shape)
        place_numbers(self.network, self.tokenizer)
        self._optimisers = make_optimisers(self.network, settings)
        self._groups = [(group, group["lr"]) for optimiser in self._optimisers for group in optimiser.param_groups]
        self._started_s = time.monotonic()
        self._seen = {"conversations": 0, "tokens": 0}

    def learn(self, step: int, inputs: Tensor, targets: Tensor) -> float:
        """One step of all optimisers; returns the loss before it."""
        loss = self.network.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        for group, rate in self._groups:
            group["lr"] = rate * rate_factor(step, self.settings)
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self._seen["conversations"] += len(inputs)
        self._seen["tokens"] += inputs.numel()
        return float(loss.detach())

    def report(self, step: int, loss: float) -> None:
        """Print the mean loss since the last report and the accuracy per kind."""
        accuracy = held_out_accuracy(self.network, self.tokenizer)
        shares = ", ".join(f"{kind} {share:.2f}" for kind, share in accuracy.items())
        print(f"{step + 1} steps, {self._minutes():.1f} min, loss {loss:.4f}: {shares}", flush=True)

    def save(self, folder: Path) -> None:
        """Leave `network.pt`, `tokenizer.json` and `training.json` in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), folder / "network.pt")
        self.tokenizer.save(folder / "tokenizer.json")
        report = {"settings": asdict(self.settings), "shape": asdict(self.shape), **self._seen}
        report["minutes"] = round(self._minutes(), 1)
        (folder / "training.json").write_text(json.dumps(report, indent=2), encoding="utf-8")

    def _minutes(self) -> float:
        return (time.monotonic() - self._started_s) / 60


def train(folder: Path, settings: Settings) -> None:
    """Train from scratch; a checkpoint is left in `folder` with every report and at the end."""
    trainer, threads = Trainer(settings), Threads(settings.threads)
    context_tokens = trainer.shape.context_tokens
    batches = training_batches(trainer.tokenizer, context_tokens, settings.batch_tokens, settings.seed)
    lost = 0.0
    for step in range(settings.steps):
        inputs, targets = next(batches)
        with threads.timed(step, inputs.numel()):
            lost += trainer.learn(step, inputs, targets) / settings.report_steps
        if (step + 1) % settings.report_steps == 0 or step + 1 == settings.steps:
            trainer.report(step, lost)
            trainer.save(folder)
            lost = 0.0
