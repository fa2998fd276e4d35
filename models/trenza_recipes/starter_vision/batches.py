"""Batches for training, drawn by a process of its own."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from trenza_recipes.starter_vision.drawing import draw, fitted
from trenza_recipes.starter_vision.facts import facts_of
from trenza_recipes.starter_vision.world import Scene, random_scene

_QUEUED = 12

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pictures:
    """Squares (batch, side, side, 3) and what is to be told about their patches (batch, patches, questions)."""

    squares: NDArray[np.uint8]
    answers: NDArray[np.int64]
    owners: NDArray[np.int64]


def pictures_of(scenes: list[Scene], rng: random.Random, patch: int) -> Pictures:
    """Draw scenes."""
    facts = [facts_of(scene, patch) for scene in scenes]
    squares = np.stack([fitted(draw(scene, rng)) for scene in scenes])
    return Pictures(squares, np.stack([f[0] for f in facts]), np.stack([f[1] for f in facts]))


def scenes_at(seen: int, count: int, rng: random.Random) -> list[Scene]:
    """Scenes for a batch: at first of one figure, then of two as well, then of any number."""
    if seen < 6_000:
        return [random_scene(rng, 1) for _ in range(count)]
    if seen < 14_000:
        return [random_scene(rng, rng.choice((1, 2, 2))) for _ in range(count)]
    return [random_scene(rng) for _ in range(count)]


def _work(make: Callable[[int, random.Random], Any], seen: Any, seed: int, queue: Any) -> None:
    rng = random.Random(seed)
    while True:
        queue.put(make(seen.value, rng))


class Supplier(Generic[Item]):
    """A process that makes batches ahead, by a function of how many samples were seen and of randomness."""

    def __init__(self, make: Callable[[int, random.Random], Item], seed: int, seen: int) -> None:
        context = multiprocessing.get_context("fork")
        self.seen = context.Value("q", seen)
        self._queue: Any = context.Queue(_QUEUED)
        self._process = context.Process(target=_work, args=(make, self.seen, seed, self._queue), daemon=True)
        self._process.start()

    @property
    def process_id(self) -> int | None:
        return self._process.pid

    def next(self) -> Item:
        """The next batch; waits for it."""
        item: Item = self._queue.get(timeout=600)
        return item

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
