"""How long requests take, by model, for telling those who wait when their turn may come."""

from __future__ import annotations

from collections.abc import Collection

from trenza_scheduler.core.domain import ModelKey

_WEIGHT = 0.1
"""How much the latest request counts in the running mean."""
_UNKNOWN_RETRY_S = 5.0
_RETRY_S = (1.0, 60.0)
"""Shortest and longest time that a refused caller is asked to stay away."""


class Pace:
    """Running means of how many slot-seconds a request takes."""

    def __init__(self) -> None:
        self._slot_s: dict[ModelKey, float] = {}

    def note(self, key: ModelKey, slots: int, took_s: float) -> None:
        """A request was served to its end."""
        known = self._slot_s.get(key)
        latest = slots * took_s
        self._slot_s[key] = latest if known is None else known + _WEIGHT * (latest - known)

    def expected_wait_s(self, key: ModelKey, turns: int, slots: int) -> float:
        """How long it takes until `turns` requests have got a place, with so many slots at work; 0 means not known."""
        return turns * self._slot_s.get(key, 0.0) / slots if slots > 0 else 0.0

    def retry_after_s(self, key: ModelKey, turns: int, slots: int) -> float:
        """When trying again makes sense for somebody who would be behind `turns` others."""
        expected_s = self.expected_wait_s(key, turns, slots) or _UNKNOWN_RETRY_S
        return min(max(expected_s, _RETRY_S[0]), _RETRY_S[1])

    def keep_only(self, keys: Collection[ModelKey]) -> None:
        """Forgets models that are no longer there."""
        for key in [key for key in self._slot_s if key not in keys]:
            del self._slot_s[key]
