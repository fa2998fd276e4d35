"""Whether models are in use, as an autoscaler asks: now, or a moment ago, so that short requests between two questions count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from trenza_scheduler.core.domain import ModelKey


class Trigger(NamedTuple):
    """What an autoscaler watches: a model, and the slots of demand that do not count yet."""

    key: ModelKey
    activation_slots: float = 0.0


class Activity:
    """Remembers of each trigger that was asked about when demand was last above its bound.

    A trigger counts as active for `hold_s` after that. At most `most` triggers are remembered; the one that nobody has asked
    about for longest is forgotten.
    """

    def __init__(self, hold_s: float, most: int) -> None:
        self._hold_s = hold_s
        self._most = most
        self._active_s: OrderedDict[Trigger, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._active_s)

    def watch(self, trigger: Trigger) -> None:
        """Somebody asks about a trigger; from now on it is looked at."""
        self._active_s.setdefault(trigger, float("-inf"))
        self._active_s.move_to_end(trigger)
        while len(self._active_s) > self._most:
            self._active_s.popitem(last=False)

    def look(self, demand_slots: Callable[[ModelKey], int], now_s: float) -> None:
        """Takes note of the demand as it is now."""
        for trigger in self._active_s:
            if demand_slots(trigger.key) > trigger.activation_slots:
                self._active_s[trigger] = now_s

    def is_active(self, trigger: Trigger, now_s: float) -> bool:
        """Whether demand is or was above the bound, as far as was looked."""
        return now_s - self._active_s.get(trigger, float("-inf")) <= self._hold_s

    def wake_s(self, now_s: float) -> float:
        """When the next trigger ceases to be active, should there be no more demand."""
        ends = (active_s + self._hold_s for active_s in self._active_s.values())
        return min((end_s for end_s in ends if end_s >= now_s), default=float("inf"))
