"""The second stage of training: the decoder learns to answer from what the eye sees, and the eye learns on with it."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trenza_recipes.starter_chat.model import Shape
from trenza_recipes.starter_chat.tokenizer import Tokenizer
from trenza_recipes.starter_vision import seeing
from trenza_recipes.starter_vision.batches import Pictures, Supplier, pictures_of
from trenza_recipes.starter_vision.conversations import PATCH, TOKENS, Writer, training_conversation
from trenza_recipes.starter_vision.drawing import normalised
from trenza_recipes.starter_vision.facts import WIDTH, telling_loss
from trenza_recipes.starter_vision.network import EyeShape, StarterVision
from trenza_recipes.starter_vision.tokenizer import build

log = logging.getLogger(__name__)

CHECKPOINT = "talking.pt"
TOKENIZER = "tokenizer.json"
CONTEXT_TOKENS = 2048
LOOKING_LAYER = 2
"""The decoder layer that is taught where to look."""
LOOKING_HEADS = 3
"""As many of its heads, the first, look at the figure that is told of; the others at the one that its place is told from."""

_SAVE_EVERY_S = 90.0
_LOG_EVERY_S = 30.0
_SMOOTHING = 0.99
_LONG_SHARE = 0.07
_MANY = (1, 2, 2, 3, 3, 3, 4, 4, 4, 4)
"""Numbers of figures, from which one is drawn, at the end: many are the hardest to tell of."""


@dataclass(frozen=True)
class Settings:
    """How long and how fast the whole learns: the rate rises, stays, and falls to zero from `falling` to `conversations`."""

    conversations: int = 237_000
    falling: int = 130_000
    rising: int = 1_200
    batch: int = 24
    alone_until: int = 5_000
    few_until: int = 10_000
    many_from: int = 113_000
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    eye_share: float = 0.15
    telling_weight: float = 0.25
    looking_weight: float = 0.25
    seed: int = 7

    def rate_at(self, seen: int) -> float:
        """The share of the full learning rate after `seen` conversations."""
        fall = (self.conversations - seen) / (self.conversations - self.falling)
        return max(0.0, min(1.0, (seen + 48) / self.rising, fall))

    def shortened(self, conversations: int) -> Settings:
        """The same course with fewer conversations."""
        part = conversations / self.conversations
        return replace(
            self,
            conversations=conversations,
            falling=round(self.falling * part),
            rising=round(self.rising * part),
            alone_until=round(self.alone_until * part),
            few_until=round(self.few_until * part),
            many_from=round(self.many_from * part),
        )


@dataclass(frozen=True)
class Batch:
    """Conversations side by side, padded at the end.

    `tokens` holds PATCH where patches of `pictures` go, in order; `targets` what comes next where the model says it, else -1;
    `looks` rows of conversation, position, and for each the positions to look `inside`, and to look `against` in some.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    looks: NDArray[np.int64]
    inside: NDArray[np.bool_]
    against: NDArray[np.bool_]
    pictures: Pictures


def language_shape(tokenizer: Tokenizer) -> Shape:
    """The sizes of the decoder."""
    return Shape(vocabulary=len(tokenizer.tokens), context_tokens=CONTEXT_TOKENS)


def make_batch(writer: Writer, rng: random.Random, size: int, patch: int, figures: tuple[int, ...]) -> Batch:
    """Conversations, in some batches fewer and longer ones; each with as many figures as one of `figures`, or any number."""
    wanted = TOKENS
    if rng.random() < _LONG_SHARE:
        size, wanted = size // 2, 2 * TOKENS + rng.randint(0, TOKENS)
    talks = [training_conversation(writer, rng, rng.choice(figures) if figures else None, wanted) for _ in range(size)]
    scenes = [scene for talk in talks for scene in talk.scenes]
    pictures = pictures_of(scenes, rng, patch)
    length = max(len(talk.tokens) for talk in talks)
    tokens = np.zeros((size, length), np.int64)
    targets = np.full((size, length), -1, np.int64)
    looks: list[tuple[int, int]] = []
    inside: list[NDArray[np.bool_]] = []
    against: list[NDArray[np.bool_]] = []
    before = 0
    for row, talk in enumerate(talks):
        held = np.array(talk.tokens)
        tokens[row, : len(held)] = held
        targets[row, : len(held) - 1] = np.where(talk.spoken[1:], held[1:], -1)
        places = np.flatnonzero(held == PATCH)
        per_picture = pictures.owners.shape[1]
        for look in talk.looks:
            owner = pictures.owners[before + look.scene]
            seen, other = np.zeros(length, np.bool_), np.zeros(length, np.bool_)
            here = places[look.scene * per_picture : (look.scene + 1) * per_picture]
            seen[here] = np.isin(owner, [figure + 1 for figure in look.figures])
            if look.against is not None:
                other[here] = owner == look.against + 1
            if seen.any():
                looks.append((row, look.position))
                inside.append(seen)
                against.append(other)
        before += len(talk.scenes)
    return Batch(tokens, targets, np.array(looks), np.stack(inside), np.stack(against), pictures)


def embedded(network: StarterVision, tokens: Tensor, read: Tensor) -> Tensor:
    """Embeddings of tokens with patches put in where they go."""
    patches = tokens == PATCH
    embeddings = network.language.token_embd(tokens.clamp(min=0))
    return embeddings.masked_scatter(patches[..., None], read.flatten(0, 1))


def _missed(looked: Tensor, wanted: NDArray[np.bool_]) -> Tensor:
    """How far heads (looks, heads, length) are from looking only where they should (looks, length)."""
    inside = (looked.mean(1) * torch.from_numpy(wanted)).sum(-1)
    return -(inside + 1e-4).log().mean()


def losses(network: StarterVision, batch: Batch, settings: Settings) -> tuple[Tensor, dict[str, float]]:
    """The loss to minimise, and its parts and the share of right tokens as numbers."""
    tokens, targets = torch.from_numpy(batch.tokens), torch.from_numpy(batch.targets)
    read, told = network.read(torch.from_numpy(normalised(batch.pictures.squares)))
    telling, right = telling_loss(told, torch.from_numpy(batch.pictures.answers))
    hidden, inputs = network.hidden_states(embedded(network, tokens, read))
    chosen = targets >= 0
    scores = functional.linear(hidden[chosen], network.language.token_embd.weight)
    talking = functional.cross_entropy(scores, targets[chosen])
    rows, positions = torch.from_numpy(batch.looks).unbind(1)
    looked = network.looks(LOOKING_LAYER, inputs[LOOKING_LAYER])[rows, :, positions]
    looking = _missed(looked[:, :LOOKING_HEADS], batch.inside)
    opposed = batch.against.any(-1)
    if opposed.any():
        looking = looking + _missed(looked[opposed, LOOKING_HEADS:], batch.against[opposed])
    total = talking + settings.telling_weight * telling + settings.looking_weight * looking
    values = {
        "talking": talking.item(),
        "right": (scores.argmax(-1) == targets[chosen]).float().mean().item(),
        "looking": looking.item(),
        "telling": telling.item(),
        **{name: right.get(name, 0.0) for name in ("shape", "colour", "count", "same shape", "left shape")},
    }
    return total, values


class Talking:
    """One run of the second stage."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        torch.manual_seed(settings.seed)
        if not (folder / TOKENIZER).exists():
            build().save(folder / TOKENIZER)
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        self._eye = EyeShape()
        self._network = StarterVision(self._eye, language_shape(tokenizer), WIDTH)
        self._writer = Writer(tokenizer, self._eye.patches)
        seers = torch.nn.ModuleList([self._network.eye, self._network.telling])
        talkers = torch.nn.ModuleList([self._network.language, self._network.projector])
        self._steppers = [
            *seeing.optimisers(seers, settings.matrix_rate, settings.other_rate),
            *seeing.optimisers(talkers, settings.matrix_rate, settings.other_rate),
        ]
        self._seen = 0
        if not self._resumed():
            seen = torch.load(folder / seeing.CHECKPOINT, weights_only=True)["network"]
            self._network.load_state_dict(seen, strict=False)
        self._smooth = {name: weight.detach().clone() for name, weight in self._network.named_parameters()}
        if self._seen:
            self._smooth = torch.load(folder / CHECKPOINT, weights_only=True)["smooth"]

    def _resumed(self) -> bool:
        path = self._folder / CHECKPOINT
        if not path.exists():
            return False
        saved = torch.load(path, weights_only=True)
        self._network.load_state_dict(saved["network"])
        for stepper, state in zip(self._steppers, saved["optimisers"], strict=True):
            stepper.load_state_dict(state)
        self._seen = saved["seen"]
        return True

    def _save(self) -> None:
        states = [stepper.state_dict() for stepper in self._steppers]
        part = self._folder / (CHECKPOINT + ".part")
        saved = {
            "network": self._network.state_dict(),
            "smooth": self._smooth,
            "optimisers": states,
            "seen": self._seen,
        }
        torch.save(saved, part)
        part.rename(self._folder / CHECKPOINT)

    def _make(self, seen: int, rng: random.Random) -> Batch:
        settings = self._settings
        if seen < settings.alone_until:
            figures: tuple[int, ...] = (1,)
        elif seen < settings.few_until:
            figures = (1, 2, 2, 3)
        else:
            figures = () if seen < settings.many_from else _MANY
        return make_batch(self._writer, rng, settings.batch, self._eye.patch, figures)

    def _step(self, batch: Batch) -> dict[str, float]:
        settings = self._settings
        share = settings.rate_at(self._seen)
        rates = (settings.matrix_rate, settings.other_rate)
        for index, stepper in enumerate(self._steppers):
            part = settings.eye_share if index < 2 else 1.0
            for group in stepper.param_groups:
                group["lr"] = rates[index % 2] * share * part
            stepper.zero_grad()
        loss, values = losses(self._network, batch, settings)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        for stepper in self._steppers:
            stepper.step()
        self._seen += len(batch.tokens)
        decay = min(_SMOOTHING, self._seen / (self._seen + 2_000))
        weights = [weight.detach() for weight in self._network.parameters()]
        torch._foreach_lerp_(list(self._smooth.values()), weights, 1 - decay)
        return values

    def run(self) -> None:
        """Train to the end, from the checkpoint if there is one; leave a checkpoint."""
        settings = self._settings
        supplier = Supplier(self._make, settings.seed + self._seen, self._seen)
        log.info("talking from conversation %d on; they come from process %s", self._seen, supplier.process_id)
        recent: deque[dict[str, float]] = deque(maxlen=25)
        logged = saved_at = began = time.monotonic()
        first = self._seen
        while self._seen < settings.conversations:
            recent.append(self._step(supplier.next()))
            supplier.seen.value = self._seen
            now = time.monotonic()
            if now - logged > _LOG_EVERY_S:
                logged = now
                means = {name: round(sum(r[name] for r in recent) / len(recent), 3) for name in recent[-1]}
                log.info("%d seen, %.1f/s: %s", self._seen, (self._seen - first) / (now - began), means)
            if now - saved_at > _SAVE_EVERY_S:
                saved_at = now
                self._save()
        supplier.close()
        self._save()
