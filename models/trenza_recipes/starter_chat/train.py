"""Training from scratch on the processor: the schedule, the progress report and the checkpoint."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from trenza_recipes.starter_chat.batches import pad, training_batches
from trenza_recipes.starter_chat.conversations import Conversation
from trenza_recipes.starter_chat.exchange import LANGUAGES
from trenza_recipes.starter_chat.kinds.registry import KINDS, draw_held_out
from trenza_recipes.starter_chat.model import Network, Shape
from trenza_recipes.starter_chat.muon import Muon
from trenza_recipes.starter_chat.tokenizer import Tokenizer, build
from trenza_recipes.starter_chat.world import NUMBER_WORDS

NUMBER_PERIODS = (2, 3, 4, 5, 7, 10, 14, 20, 28, 40)


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run yields."""

    steps: int = 3_600
    batch_tokens: int = 6_144
    warm_up_steps: int = 100
    decay_share: float = 0.4
    matrix_rate: float = 0.02
    vector_rate: float = 0.003
    weight_decay: float = 0.1
    gradient_norm: float = 1.0
    report_steps: int = 200
    seed: int = 2024
    threads: int = 2


def rate_factor(step: int, settings: Settings) -> float:
    """The share of the learning rate at `step`: a short rise, a plateau, a straight fall to zero."""
    falling = settings.steps * settings.decay_share
    return min(1.0, (step + 1) / settings.warm_up_steps, (settings.steps - step) / falling)


def number_features(value: int, width: int) -> Tensor:
    """A point for `value` on several circles, the start that lets sums be learnt as turns."""
    basis = torch.linalg.qr(torch.randn(width, 2 * len(NUMBER_PERIODS), generator=torch.Generator().manual_seed(5)))[0]
    turns = [math.tau * value / period for period in NUMBER_PERIODS]
    circles = torch.tensor([part for turn in turns for part in (math.cos(turn), math.sin(turn))])
    features: Tensor = basis @ (circles / circles.norm())
    return features


def place_numbers(network: Network, tokenizer: Tokenizer) -> None:
    """Start the embeddings of all ways to write a number from the same point."""
    weight = network.token_embd.weight
    with torch.no_grad():
        for value in range(len(NUMBER_WORDS["en"])):
            names = [str(value), *(NUMBER_WORDS[language][value] for language in LANGUAGES)]
            written = {
                form for name in names for form in (name, name.capitalize(), f" {name}", f" {name.capitalize()}")
            }
            for token in sorted(token for form in written if (token := tokenizer.id_of(form)) is not None):
                weight[token] = 0.9 * number_features(value, weight.shape[1]) + 0.5 * weight[token]


def make_optimisers(network: Network, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embedding and norms."""
    matrices = [weight for weight in network.blocks.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in network.parameters() if id(weight) not in chosen]
    return [
        Muon(matrices, lr=settings.matrix_rate, weight_decay=settings.weight_decay),
        torch.optim.AdamW(others, lr=settings.vector_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


@torch.no_grad()
def held_out_accuracy(network: Network, tokenizer: Tokenizer, count: int = 32) -> dict[str, float]:
    """Share of held-out answers, per kind, whose every token is the network's first choice."""
    rng, accuracy = Random(7), {}
    for kind in KINDS:
        episodes = [draw_held_out(rng, kind, LANGUAGES[index % 2]) for index in range(count)]
        encoded = []
        for episode in episodes:
            tokens, _ = tokenizer.encode_conversation(Conversation(None, episode))
            before = len(tokenizer.encode_conversation(Conversation(None, episode[:-1]))[0]) if episode[:-1] else 0
            asked = before + 3 + len(tokenizer.encode(episode[-1].question)) + 2 + 3
            encoded.append((tokens[:-1], [index >= asked for index in range(len(tokens) - 1)]))
        inputs, targets = pad(encoded, tokenizer.padding_id)
        right = (network(inputs).argmax(-1) == targets) | (targets < 0)
        accuracy[kind] = right.all(dim=1).float().mean().item()
    return accuracy


def train(folder: Path, settings: Settings) -> None:
    """Train from scratch and leave `network.pt`, `tokenizer.json` and `training.json` in `folder`."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build()
    shape = Shape(vocabulary=len(tokenizer.tokens))
    network = Network(shape)
    place_numbers(network, tokenizer)
    optimisers = make_optimisers(network, settings)
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    batches = training_batches(tokenizer, shape.context_tokens, settings.batch_tokens, settings.seed)
    started, seen, lost = time.monotonic(), {"conversations": 0, "tokens": 0}, 0.0
    for step in range(settings.steps):
        inputs, targets = next(batches)
        loss = network.loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_norm)
        for rate, group in zip(
            rates, (group for optimiser in optimisers for group in optimiser.param_groups), strict=True
        ):
            group["lr"] = rate * rate_factor(step, settings)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        seen["conversations"] += len(inputs)
        seen["tokens"] += inputs.numel()
        lost += loss.item() / settings.report_steps
        if (step + 1) % settings.report_steps == 0 or step + 1 == settings.steps:
            minutes = (time.monotonic() - started) / 60
            accuracy = held_out_accuracy(network, tokenizer)
            print(f"{step + 1} steps, {minutes:.1f} min, loss {lost:.4f}:", end=" ")
            print(", ".join(f"{kind} {share:.2f}" for kind, share in accuracy.items()), flush=True)
            lost = 0.0
            torch.save(network.state_dict(), folder / "network.pt")
            tokenizer.save(folder / "tokenizer.json")
            report = {"settings": asdict(settings), "shape": asdict(shape), **seen, "minutes": round(minutes, 1)}
            (folder / "training.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
