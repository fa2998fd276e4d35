"""Who gets a slot next: by priority class, then by arrival."""

from __future__ import annotations

import bisect
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One who waits or works. Places compare in the order in which they are served."""

    priority: int
    arrival: int
    slots: int


class Line:
    """A number of slots and a bounded line of those who wait for them.

    The line is strict: where the first one needs more slots than are free, those behind it wait too, so that nobody who
    needs many slots is passed over for ever.
    """

    def __init__(self, slots: int, queue_limit: int) -> None:
        if slots < 1 or queue_limit < 0:
            raise ValueError(f"a line needs a slot and no negative limit, not {slots} and {queue_limit}")
        self._slots = slots
        self._queue_limit = queue_limit
        self._free = slots
        self._arrivals = 0
        self._waiting: list[Place] = []

    @property
    def slots(self) -> int:
        """Slots in all."""
        return self._slots

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self._slots - self._free

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._waiting)

    @property
    def queue_limit(self) -> int:
        """How many may stand in the line."""
        return self._queue_limit

    def join(self, priority: int, slots: int = 1) -> tuple[Place, bool] | None:
        """Takes slots, or a place in the line; the answer says whether the slots are taken. None: the line is full.

        Lower priorities go first. More slots than there are count as all of them.
        """
        wanted = min(max(slots, 1), self._slots)
        fits = not self._waiting and wanted <= self._free
        if not fits and len(self._waiting) >= self._queue_limit:
            return None
        self._arrivals += 1
        place = Place(priority, self._arrivals, wanted)
        if fits:
            self._free -= wanted
        else:
            bisect.insort(self._waiting, place)
        return place, fits

    def leave(self, place: Place) -> None:
        """Takes a place out of the line. Raises ValueError when it is not in it."""
        self._waiting.remove(place)

    def give_back(self, place: Place) -> None:
        """Frees the slots of a place."""
        self._free += place.slots

    def advance(self) -> list[Place]:
        """Gives the free slots to the first in the line; returns those whose turn it is."""
        called = []
        while self._waiting and self._waiting[0].slots <= self._free:
            place = self._waiting.pop(0)
            self._free -= place.slots
            called.append(place)
        return called
