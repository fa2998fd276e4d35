"""Batches from a child process, which is started again whenever the synthesiser takes it down."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trenza_recipes.starter_whisper.samples import IGNORED, Course, Sample, Sampler
from trenza_recipes.starter_whisper.speech import Synthesiser

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

log = logging.getLogger(__name__)

_SORTED_BATCHES = 6
_LONGEST_FRAMES = 1500
_WAITING_BATCHES = 24
_MOST_RESTARTS = 1000

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples side by side, padded: mel (batch, 80, 2 * frames) in half precision, tokens and labels (batch, length), labels
    of frames (batch, frames), and rows (sample, place, first frame, end frame) of where to look."""

    mel: NDArray[np.float16]
    tokens: Numbers
    labels: Numbers
    looks: Numbers
    frame_words: Numbers
    frame_sounds: Numbers
    frame_ordinals: Numbers
    frame_previous: Numbers


def collated(samples: list[Sample], padding_token: int) -> Batch:
    """A batch of samples."""
    frames = min(_LONGEST_FRAMES, max(sample.mel.shape[1] // 2 for sample in samples))
    length = max(len(sample.labels) for sample in samples)
    mel = np.zeros((len(samples), samples[0].mel.shape[0], 2 * frames), np.float16)
    tokens = np.full((len(samples), length), padding_token)
    labels = np.full((len(samples), length), IGNORED)
    words, sounds, ordinals, previous = (np.zeros((len(samples), frames), np.int64) for _ in range(4))
    for row, sample in enumerate(samples):
        mel[row, :, : sample.mel.shape[1]] = sample.mel[:, : 2 * frames]
        tokens[row, : len(sample.labels)] = sample.tokens[:-1]
        labels[row, : len(sample.labels)] = sample.labels
        for target, source in (
            (words, sample.frame_words),
            (sounds, sample.frame_sounds),
            (ordinals, sample.frame_ordinals),
            (previous, sample.frame_previous),
        ):
            target[row, : len(source)] = source[:frames]
    looks = [(row, *look) for row, sample in enumerate(samples) for look in sample.looks]
    return Batch(mel, tokens, labels, np.array(looks, np.int64).reshape(-1, 4), words, sounds, ordinals, previous)


def _supply(
    pipe: Connection, room: Any, seen: Synchronized[int], seed: int, course_at: Callable[[int], tuple[Course, int]]
) -> None:
    os.nice(5)
    sampler = Sampler(Synthesiser(), seed)
    dice = random.Random(seed)
    padding = 0
    while True:
        course, size = course_at(seen.value)
        samples = sorted((sampler.sample(course) for _ in range(size * _SORTED_BATCHES)), key=lambda s: s.mel.shape[1])
        groups = [samples[i : i + size] for i in range(0, len(samples), size)]
        dice.shuffle(groups)
        for group in groups:
            while group:
                # A batch of long windows is cut, so that every step costs about the same.
                fitting = max(1, int(size * 220 / max(220, group[-1].mel.shape[1])))
                part, group = group[:fitting], group[fitting:]  # noqa: PLW2901  # what is left is the next part
                room.acquire()
                pipe.send(collated(part, padding))


class Supplier:
    """An endless supply of batches made in a child process."""

    def __init__(self, seed: int, seen: int, course_at: Callable[[int], tuple[Course, int]]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._course_at = course_at
        self._seed = seed
        self._starts = 0
        self.seen: Synchronized[int] = self._context.Value("q", seen)
        self._start()

    def _start(self) -> None:
        self._starts += 1
        if self._starts > _MOST_RESTARTS:
            raise RuntimeError(f"the synthesiser went down {_MOST_RESTARTS} times")
        self._receiving, sending = self._context.Pipe(duplex=False)
        self._room = self._context.Semaphore(_WAITING_BATCHES)
        given = (sending, self._room, self.seen, self._seed * 1_000_003 + self._starts, self._course_at)
        self._child: SpawnProcess = self._context.Process(target=_supply, args=given, daemon=True)
        self._child.start()
        sending.close()

    @property
    def process_id(self) -> int | None:
        """The child process."""
        return self._child.pid

    def next(self) -> Batch:
        """The next batch, waiting for it if need be."""
        while True:
            try:
                batch: Batch = self._receiving.recv()
            except (EOFError, OSError):
                log.warning("the synthesiser went down, exit code %s; starting another", self._child.exitcode)
                self._start()
            else:
                self._room.release()
                return batch

    def close(self) -> None:
        """End the child process."""
        self._child.kill()
        self._child.join()
