"""Training: from random weights to a checkpoint, in one go or in several."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional

from trenza_recipes.starter_chat.muon import Muon
from trenza_recipes.starter_whisper.batches import Batch, Numbers, Supplier
from trenza_recipes.starter_whisper.network import Heard, Shape, StarterWhisper
from trenza_recipes.starter_whisper.samples import IGNORED, LONGEST_ORDINAL, WORD_CLASSES, Course
from trenza_recipes.starter_whisper.speech import SOUND_CLASSES
from trenza_recipes.starter_whisper.tokenizer import TIMESTAMPS, Tokens

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
REPORT = "training.json"
_SAVE_EVERY_S = 120.0
_LOG_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A course, the size of its batches, and the number of samples at which it ends."""

    until: int
    batch: int
    course: Course


STAGES = (
    Stage(4_500, 16, Course(single_words=0.7, other_voices=0.0, spoiled=0.0, no_speech=0.02)),
    Stage(16_000, 24, Course(single_words=0.12, other_voices=0.1, spoiled=0.08, no_speech=0.05)),
    Stage(32_000, 32, Course(0.1, 0.3, 0.25, no_speech=0.06, several=0.08, prompted=0.04)),
    Stage(56_000, 32, Course(0.08, 0.3, 0.25, no_speech=0.09, several=0.1, long=0.01, prompted=0.04)),
    Stage(10_000_000, 32, Course(0.06, 0.45, 0.35, no_speech=0.08, several=0.1, long=0.01, prompted=0.04)),
)


def course_at(seen: int) -> tuple[Course, int]:
    """What is taught after `seen` samples, and the size of its batches."""
    stage = next(stage for stage in STAGES if seen < stage.until)
    return stage.course, stage.batch


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast to learn: the rate rises over `rising`, stays, and falls to zero from `falling` to `samples`."""

    samples: int = 68_500
    falling: int = 16_000
    rising: int = 1_500
    matrix_rate: float = 0.012
    other_rate: float = 1.5e-3
    seed: int = 1
    threads: int = 1

    def rate_at(self, seen: int) -> float:
        """The share of the full learning rate after `seen` samples."""
        rise = min(1.0, (seen + 16) / self.rising)
        fall = (self.samples - seen) / max(1, self.samples - self.falling)
        return max(0.0, min(rise, fall))


def shape_of(tokens: Tokens) -> Shape:
    """The sizes of the network for this vocabulary."""
    classes = {"word_classes": len(WORD_CLASSES) + 1, "sound_classes": SOUND_CLASSES, "ordinals": LONGEST_ORDINAL + 1}
    return Shape(len(tokens), tokens.first_timestamp, **classes)


@dataclass(frozen=True, slots=True)
class Losses:
    """What the network is told: tokens, where to look for them, and four things about every frame."""

    tokens: Tensor
    looks: Tensor
    words: Tensor
    sounds: Tensor
    ordinals: Tensor
    previous: Tensor

    def total(self) -> Tensor:
        """The weighted sum that is minimised."""
        about_frames = 0.7 * self.words + 0.4 * self.sounds + 0.15 * self.ordinals + 0.5 * self.previous
        return self.tokens + 0.3 * self.looks + about_frames

    def values(self) -> list[float]:
        """The parts as numbers."""
        return [
            part.item() for part in (self.tokens, self.looks, self.words, self.sounds, self.ordinals, self.previous)
        ]


def _token_loss(logits: Tensor, labels: Tensor, first_timestamp: int) -> Tensor:
    """Cross-entropy; a timestamp's neighbours count as nearly right."""
    wanted = labels != IGNORED
    chosen, targets = logits[wanted], labels[wanted]
    timed = targets >= first_timestamp
    plain = functional.cross_entropy(chosen[~timed], targets[~timed], reduction="sum")
    distances = torch.arange(TIMESTAMPS) - (targets[timed] - first_timestamp)[:, None]
    near = torch.softmax(-((distances / 1.5) ** 2) / 2, dim=1)
    logs = chosen[timed].log_softmax(-1)[:, first_timestamp:]
    return (plain - 0.3 * (near * logs).sum()) / max(1, len(targets))


def _look_loss(looks: Tensor, rows: Tensor) -> Tensor:
    """How much of the attention of the last decoder layer is not on the frames of the word to write."""
    if not len(rows):
        return looks.sum() * 0.0
    sample, place, first, end = rows.unbind(1)
    attention = looks.mean(1)[sample, place]
    frames = torch.arange(attention.shape[1])
    inside = (frames >= first[:, None]) & (frames < end[:, None])
    return -((attention * inside).sum(1) + 1e-4).log().mean()


def losses(heard: Heard, batch: Batch, first_timestamp: int) -> Losses:
    """The losses of a batch."""

    def frames(logits: Tensor, labels: Numbers) -> Tensor:
        targets = torch.from_numpy(labels).flatten()
        return functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=IGNORED)

    return Losses(
        _token_loss(heard.tokens, torch.from_numpy(batch.labels), first_timestamp),
        _look_loss(heard.looks, torch.from_numpy(batch.looks)),
        frames(heard.words, batch.frame_words),
        frames(heard.sounds, batch.frame_sounds),
        frames(heard.ordinals, batch.frame_ordinals),
        frames(heard.previous, batch.frame_previous),
    )


class Team:
    """The processes that train together, each on batches of its own: one alone, or as many as `torchrun` started."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        if self.size > 1:
            distributed.init_process_group("gloo")
        self.place = distributed.get_rank() if self.size > 1 else 0

    def share_gradients(self, network: StarterWhisper, samples: int) -> int:
        """Replace everybody's gradients by their mean; returns how many samples all have learnt from together."""
        if self.size == 1:
            return samples
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        together = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([float(samples)])])
        distributed.all_reduce(together)
        parts = together.split([*(gradient.numel() for gradient in gradients), 1])
        for gradient, part in zip(gradients, parts[:-1], strict=True):
            gradient.copy_(part.view_as(gradient) / self.size)
        return int(parts[-1].item())


@dataclass(slots=True)
class _Run:
    """A training under way."""

    team: Team
    network: StarterWhisper
    optimisers: list[torch.optim.Optimizer]
    seen: int = 0
    steps: int = 0
    spent_s: float = 0.0


def _optimisers(network: StarterWhisper, settings: Settings) -> list[torch.optim.Optimizer]:
    named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if weight.ndim == 2 and ".layers." in name]
    inside = {id(weight) for weight in matrices}
    others = [weight for _, weight in named if id(weight) not in inside]
    return [
        Muon(matrices, settings.matrix_rate, weight_decay=0.02),
        torch.optim.AdamW(others, settings.other_rate, betas=(0.9, 0.98), eps=1e-7, weight_decay=0.01),
    ]


def _begin(folder: Path, settings: Settings, tokens: Tokens) -> _Run:
    """A new run, or the one whose checkpoint is in the folder."""
    torch.manual_seed(settings.seed)
    network = StarterWhisper(shape_of(tokens))
    run = _Run(Team(), network, _optimisers(network, settings))
    path = folder / CHECKPOINT
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["network"])
        for optimiser, state in zip(run.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        run.seen, run.steps, run.spent_s = saved["seen"], saved["steps"], saved["spent_s"]
    torch.manual_seed(settings.seed + run.steps * run.team.size + run.team.place)
    return run


def _save(run: _Run, folder: Path) -> None:
    if run.team.place:
        return
    states = [optimiser.state_dict() for optimiser in run.optimisers]
    progress = {"seen": run.seen, "steps": run.steps, "spent_s": run.spent_s}
    half_written = folder / (CHECKPOINT + ".part")
    torch.save({"network": run.network.state_dict(), "optimisers": states, **progress}, half_written)
    half_written.rename(folder / CHECKPOINT)


def _step(run: _Run, batch: Batch, settings: Settings, first_timestamp: int) -> list[float]:
    share = settings.rate_at(run.seen)
    for optimiser, rate in zip(run.optimisers, (settings.matrix_rate, settings.other_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate * share
        optimiser.zero_grad()
    heard = run.network(torch.from_numpy(batch.mel.astype(np.float32)), torch.from_numpy(batch.tokens))
    parts = losses(heard, batch, first_timestamp)
    parts.total().backward()
    samples = run.team.share_gradients(run.network, len(batch.tokens))
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    for optimiser in run.optimisers:
        optimiser.step()
    run.seen += samples
    run.steps += 1
    with torch.no_grad():
        labels = torch.from_numpy(batch.labels)
        text = (labels >= 0) & (labels < first_timestamp)
        right = (heard.tokens.argmax(-1) == labels)[text].float().mean().item()
    return [*parts.values(), right]


def train(folder: Path, settings: Settings) -> None:
    """Train until `settings.samples`, from the checkpoint in `folder` if there is one; leave a checkpoint and a report there."""
    torch.set_num_threads(settings.threads)
    folder.mkdir(parents=True, exist_ok=True)
    tokens = Tokens()
    run = _begin(folder, settings, tokens)
    supplier = Supplier((settings.seed + run.steps) * run.team.size + run.team.place, run.seen, course_at)
    log.info("training from sample %d on; batches come from process %s", run.seen, supplier.process_id)
    recent: deque[list[float]] = deque(maxlen=100)
    earlier_s, began, waited_s = run.spent_s, time.monotonic(), 0.0
    logged = saved = began
    start_seen = run.seen
    while run.seen < settings.samples:
        before = time.monotonic()
        batch = supplier.next()
        waited_s += time.monotonic() - before
        recent.append(_step(run, batch, settings, tokens.first_timestamp))
        supplier.seen.value = run.seen
        now = time.monotonic()
        run.spent_s = earlier_s + now - began
        if now - logged > _LOG_EVERY_S:
            logged = now
            names = ("tokens", "looks", "words", "sounds", "ordinals", "previous", "right")
            shown = " ".join(f"{name} {value:.3f}" for name, value in zip(names, np.mean(recent, 0), strict=True))
            speed = (run.seen - start_seen) / (now - began)
            log.info("%d seen, %.1f/s, waited %.0f%%: %s", run.seen, speed, 100 * waited_s / (now - began), shown)
        if now - saved > _SAVE_EVERY_S:
            saved = now
            _save(run, folder)
    supplier.close()
    _save(run, folder)
    report = {"settings": asdict(settings), "seen": run.seen, "steps": run.steps, "spent_s": round(run.spent_s)}
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
