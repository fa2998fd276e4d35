"""How long to leave a failing model alone."""

from __future__ import annotations


class Backoff:
    """A pause that doubles with every failure, from `first_s` to `longest_s` seconds, and is forgotten after good health."""

    def __init__(self, first_s: float = 1.0, longest_s: float = 60.0, healthy_s: float = 60.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._healthy_s = healthy_s
        self._failures = 0
        self._until_s = 0.0

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def failed(self, now_s: float, healthy_for_s: float = 0.0) -> None:
        """Notes a failure, after so many seconds of health before it."""
        if healthy_for_s >= self._healthy_s:
            self._failures = 0
        # Beyond 2**30 the pause is the longest one anyway, and the power would grow for ever.
        pause_s = min(self._longest_s, self._first_s * 2 ** min(self._failures, 30))
        self._failures += 1
        self._until_s = now_s + pause_s

    def remaining_s(self, now_s: float) -> float:
        """Seconds until the next attempt makes sense."""
        return max(0.0, self._until_s - now_s)

    def forget(self) -> None:
        """Forgets all failures: something has changed that may have mended them."""
        self._failures, self._until_s = 0, 0.0
