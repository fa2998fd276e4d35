"""Finds stop sequences in text that arrives in pieces, showing as much of it as early as possible."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Passes text through until one of the stop sequences is complete.

    The result does not depend on how the text was cut into pieces: the sequence that is completed first ends it, and of
    several completed by the same character the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise ValueError("a stop sequence must not be empty")
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None
        """The stop sequence that ended the text, once one did."""

    def feed(self, text: str) -> str:
        """Adds text and returns what can be shown: all but the shortest ending that may grow into a stop sequence."""
        if self.matched is not None:
            return ""
        pending = self._held + text
        end, stop = self._first_match(pending)
        if stop is not None:
            self.matched, self._held = stop, ""
            return pending[: end - len(stop)]
        keep = self._held_length(pending)
        self._held = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]

    def finish(self) -> str:
        """Ends the text and returns what was held back."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str | None]:
        best: tuple[int, str | None] = (len(text) + 1, None)
        for stop in self._stops:
            start = text.find(stop)
            if start < 0:
                continue
            end = start + len(stop)
            if end < best[0] or (end == best[0] and len(stop) > len(best[1] or "")):
                best = (end, stop)
        return best

    def _held_length(self, text: str) -> int:
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            ending = text[len(text) - length :]
            if any(stop.startswith(ending) for stop in self._stops):
                return length
        return 0
