"""Training from scratch on the processor: the settings, the schedule and the checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

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

    stage_steps: tuple[int, int, int, int] = (1_000, 500, 1_400, 500)
    batch_tokens: int = 6_144
    rate_knots: tuple[tuple[int, float], ...] = (
        (0, 0.01),
        (99, 1.0),
        (1_000, 1.0),
        (1_200, 0.75),
        (1_500, 0.1875),
        (1_525, 0.7),
        (2_200, 0.7),
        (2_900, 0.0),
        (2_930, 0.5),
        (3_000, 0.5),
        (3_400, 0.0),
    )
    matrix_rate: float = 0.02
    vector_rate: float = 0.003
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    report_steps: int = 100
    seed: int = 2024
    threads: int = 2

    @property
    def steps(self) -> int:
        return sum(self.stage_steps)

    def shortened(self, *stage_steps: int) -> Settings:
        """These settings with other steps in the four stages, for a trial; the rate rises and falls in proportion."""
        first, second, third, fourth = stage_steps
        total = sum(stage_steps)
        knots = tuple((round(step * total / self.steps), factor) for step, factor in self.rate_knots)
        return replace(self, stage_steps=(first, second, third, fourth), rate_knots=knots)


def rate_factor(step: int, settings: Settings) -> float:
    """The share of the learning rate at `step`, on straight lines between the knots; zero after the last."""
    for (first, start), (last, end) in pairwise(settings.rate_knots):
        if first <= step <= last:
            return start + (end - start) * (step - first) / (last - first)
    return 0.0


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
        self._groups = [(group, group["lr"]) for group in self._all_groups()]
        self._started_s = time.monotonic()
        self._minutes_before = 0.0
        self._seen = {"steps": 0, "conversations": 0, "tokens": 0}

    @property
    def steps_done(self) -> int:
        return self._seen["steps"]

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of all stages, from the first."""
        for stage, steps in enumerate(self.settings.stage_steps):
            seed, context_tokens = self.settings.seed + stage, self.shape.context_tokens
            drawn = training_batches(self.tokenizer, context_tokens, self.settings.batch_tokens, seed, stage)
            yield from islice(drawn, steps)

    def learn(self, inputs: Tensor, targets: Tensor) -> float:
        """One step of all optimisers; returns the loss before it."""
        loss = self.network.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        for group, rate in self._groups:
            group["lr"] = rate * rate_factor(self.steps_done, self.settings)
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self._seen["steps"] += 1
        self._seen["conversations"] += len(inputs)
        self._seen["tokens"] += inputs.numel()
        return float(loss.detach())

    def report(self, loss: float) -> None:
        """Print the mean loss since the last report and the accuracy per kind."""
        accuracy = held_out_accuracy(self.network, self.tokenizer)
        shares = ", ".join(f"{kind} {share:.2f}" for kind, share in accuracy.items())
        print(f"{self.steps_done} steps, {self._minutes():.1f} min, loss {loss:.4f}: {shares}", flush=True)

    def save(self, folder: Path) -> None:
        """Leave `network.pt`, `optimisers.pt`, `tokenizer.json` and `training.json` in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), folder / "network.pt")
        torch.save([optimiser.state_dict() for optimiser in self._optimisers], folder / "optimisers.pt")
        self.tokenizer.save(folder / "tokenizer.json")
        report = {"settings": asdict(self.settings), "shape": asdict(self.shape), **self._seen}
        report["minutes"] = round(self._minutes(), 1)
        (folder / "training.json").write_text(json.dumps(report, indent=2), encoding="utf-8")

    def resume(self, folder: Path) -> None:
        """Go on from what `save` left in `folder`, where there is anything; nothing there is no error."""
        if not (folder / "training.json").exists():
            return
        report = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        self._seen = {name: report[name] for name in self._seen}
        self._minutes_before = report["minutes"]
        self.network.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
        states = torch.load(folder / "optimisers.pt", weights_only=True)
        for optimiser, state in zip(self._optimisers, states, strict=True):
            optimiser.load_state_dict(state)
        self._groups = [(group, rate) for group, (_, rate) in zip(self._all_groups(), self._groups, strict=True)]

    def _all_groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self._optimisers for group in optimiser.param_groups]

    def _minutes(self) -> float:
        return self._minutes_before + (time.monotonic() - self._started_s) / 60


def train(folder: Path, settings: Settings) -> None:
    """Train from scratch, or from the checkpoint in `folder`; one is left there with every report and at the end."""
    trainer, threads = Trainer(settings), Threads(settings.threads)
    trainer.resume(folder)
    lost = 0.0
    for step, (inputs, targets) in enumerate(islice(trainer.batches(), trainer.steps_done, None)):
        with threads.timed(step, inputs.numel()):
            lost += trainer.learn(inputs, targets) / settings.report_steps
        if trainer.steps_done % settings.report_steps == 0 or trainer.steps_done == settings.steps:
            trainer.report(lost)
            trainer.save(folder)
            lost = 0.0
