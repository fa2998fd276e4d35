"""Tries a thing again, a stated number of times, with pauses that double."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from threading import Event
from typing import TypeVar

from trenza_fetch.failures import Stopped, Transient

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 60.0
_T = TypeVar("_T")


class Retries:
    """How often and after which pauses. `stopping` ends a pause at once."""

    def __init__(self, attempts: int, first_pause_s: float, stopping: Event, random: Random) -> None:
        self._attempts, self._first_pause_s, self._stopping, self._random = attempts, first_pause_s, stopping, random

    def run(self, what: str, call: Callable[[], _T], progress: Callable[[], int] = lambda: 0) -> _T:
        """Calls until it works. Raises the last Transient, or whatever else the call raises, at once.

        Attempts after which `progress` has grown do not count, so a large file over a poor line gets there.
        """
        failed, reached = 0, progress()
        while True:
            try:
                return call()
            except Transient as failure:
                if progress() > reached:
                    failed, reached = 0, progress()
                failed += 1
                if failed >= self._attempts:
                    raise
                pause_s = self._pause_s(failed)
                log.warning(
                    "trying again",
                    extra={"what": what, "why": str(failure), "attempt": failed, "pause_s": round(pause_s, 1)},
                )
                if self._stopping.wait(pause_s):
                    raise Stopped from None

    def _pause_s(self, failed: int) -> float:
        whole_s = min(LONGEST_PAUSE_S, self._first_pause_s * 2.0 ** min(failed - 1, 10))
        return whole_s * self._random.uniform(0.5, 1.0)
