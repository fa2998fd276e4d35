"""Pictures within a prompt: runs of tokens that stand for them, where these may be cut, and which positions they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RUN_BITS = 40
"""Enough for the number of a picture's part (12 bits) and a token's place in it (28 bits)."""

_PLACE_BITS = 28


@dataclass(frozen=True, slots=True)
class PictureRun:
    """`count` tokens of a prompt from `start` on that stand for a part of the picture `key`, the `part`-th.

    The text behind it goes on `positions` further than where it starts, which is less than `count` for models that
    number the rows and columns of a picture. A `whole` run has to be computed in one batch, since its tokens look at
    one another.
    """

    start: int
    count: int
    positions: int
    whole: bool
    key: str
    part: int

    @property
    def end(self) -> int:
        """Where the tokens behind it begin."""
        return self.start + self.count


def stand_ins(key: str, part: int, count: int) -> list[int]:
    """Numbers that stand for the tokens of a picture's part: below 0, as no token is, and the same for no other part.

    `key` is a number in hexadecimal.
    """
    first = -1 - (int(key, 16) << _RUN_BITS | part << _PLACE_BITS)
    return list(range(first, first - count, -1))


def position_of(index: int, runs: Sequence[PictureRun]) -> int:
    """The position of a prompt's token by its index; that of the run's start for a token within a run."""
    position = index
    for run in runs:
        if run.end <= index:
            position += run.positions - run.count
        elif run.start < index:
            position -= index - run.start
    return position


def run_at(index: int, runs: Sequence[PictureRun]) -> PictureRun | None:
    """The run to which the token with that index belongs, None for a token of text."""
    return next((run for run in runs if run.start <= index < run.end), None)


def text_until(index: int, runs: Sequence[PictureRun], end: int) -> int:
    """Where the text that goes on at `index` ends: at the next run, or at `end`."""
    return min((run.start for run in runs if run.start >= index), default=end)


def whole_pictures(length: int, runs: Sequence[PictureRun]) -> int:
    """The length of the longest beginning of a prompt, at most `length`, that does not end within a run."""
    run = run_at(length, runs)
    return length if run is None else run.start
