"""The number of processor threads that training uses, chosen by trial while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Threads:
    """How many processor threads to use: one or all, whichever was faster lately; a busy machine makes more slower."""

    TRIAL_STEPS = 3
    PERIOD_STEPS = 50

    def __init__(self, most: int) -> None:
        self._most = most
        self._spent_s = [0.0, 0.0]

    @contextmanager
    def timed(self, step: int, tokens: int) -> Iterator[None]:
        """Run `step` on the chosen number of threads; in a trial its time per token is kept."""
        phase = step % self.PERIOD_STEPS
        self._set_for(phase)
        started_s = time.monotonic()
        yield
        if phase < 2 * self.TRIAL_STEPS:
            self._spent_s[phase // self.TRIAL_STEPS] += (time.monotonic() - started_s) / tokens

    def _set_for(self, phase: int) -> None:
        """A trial with one thread, a trial with all, then the better of the two."""
        if phase == 0:
            self._spent_s = [0.0, 0.0]
        uses_all = phase >= self.TRIAL_STEPS
        if phase >= 2 * self.TRIAL_STEPS:
            uses_all = self._spent_s[1] < self._spent_s[0]
        torch.set_num_threads(self._most if uses_all else 1)
