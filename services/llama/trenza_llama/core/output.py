"""The text of one answer: bytes of tokens in, text that may be shown out, each token beside the text it belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from trenza_llama.core.stop import StopMatcher
from trenza_llama.core.utf8 import Utf8Assembler

Note = TypeVar("Note")
"""Whatever the caller wants to travel with a token (its log-probability)."""


class OutputText(Generic[Note]):
    """Joins tokens to text, stops at stop sequences and releases each token's note together with its text.

    The notes of tokens that begin inside or behind the stop sequence are dropped with it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._utf8 = Utf8Assembler()
        self._stop = StopMatcher(stops)
        self._notes: deque[tuple[int, Note]] = deque()
        self._arrived_chars = 0
        self._shown_chars = 0

    @property
    def matched(self) -> str | None:
        """The stop sequence that ended the text, if one did."""
        return self._stop.matched

    def feed(self, piece: bytes, note: Note | None = None) -> tuple[str, tuple[Note, ...]]:
        """Adds a token and returns the text that can be shown now and the notes that belong to it."""
        if note is not None:
            self._notes.append((self._arrived_chars, note))
        text = self._utf8.feed(piece)
        self._arrived_chars += len(text)
        return self._show(self._stop.feed(text))

    def finish(self) -> tuple[str, tuple[Note, ...]]:
        """Ends the text and returns the rest of it, nothing if a stop sequence ended it before."""
        if self.matched is not None:
            return "", ()
        rest = self._stop.feed(self._utf8.finish())
        held = self._stop.finish() if self.matched is None else ""
        text, notes = self._show(rest + held)
        if self.matched is None:
            notes += tuple(note for _, note in self._notes)
            self._notes.clear()
        return text, notes

    def _show(self, text: str) -> tuple[str, tuple[Note, ...]]:
        self._shown_chars += len(text)
        released: list[Note] = []
        while self._notes and self._notes[0][0] < self._shown_chars:
            released.append(self._notes.popleft()[1])
        return text, tuple(released)
