"""Reads a window's tokens as segments: where the model's timestamps cut the text, and where the next window begins.

The rules are those of faster-whisper, so that the same tokens give the same segments.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

FRAMES_PER_S = 100
"""Frames of the spectrogram per second."""
WINDOW_FRAMES = 3000
"""Frames that the model hears at once: 30 seconds."""
_TIMESTAMP_S = 0.02
_FRAMES_PER_TIMESTAMP = 2
MIN_ADVANCE_FRAMES = 10
"""The least that a window brings a request forward; without it a model that repeats itself would hear one spot for ever."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens between two timestamps; times in seconds from the start of the sound."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """A window cut into slices. `next_seek` is the frame at which the next window begins.

    `complete` says that the model closed its last segment and heard nothing after it.
    """

    slices: tuple[Slice, ...]
    next_seek: int
    complete: bool


def cut(tokens: Sequence[int], timestamp_begin: int, seek: int, window_frames: int) -> Cut:
    """Cuts the tokens of a window of `window_frames` frames that begins at frame `seek`.

    `timestamp_begin` is the token of 0.00 seconds; that token and those above it are timestamps.
    """

    def is_timestamp(index: int) -> bool:
        return tokens[index] >= timestamp_begin

    offset_s = seek / FRAMES_PER_S
    complete = len(tokens) >= 2 and is_timestamp(len(tokens) - 1) and not is_timestamp(len(tokens) - 2)
    ends = [index for index in range(1, len(tokens)) if is_timestamp(index) and is_timestamp(index - 1)]
    if not ends:
        return Cut((_uncut(tokens, timestamp_begin, offset_s, window_frames),), seek + window_frames, complete)
    if complete:
        ends.append(len(tokens))
    starts = [0, *ends[:-1]]
    slices = tuple(
        Slice(
            offset_s + (tokens[start] - timestamp_begin) * _TIMESTAMP_S,
            offset_s + (tokens[end - 1] - timestamp_begin) * _TIMESTAMP_S,
            tuple(tokens[start:end]),
        )
        for start, end in zip(starts, ends, strict=True)
    )
    if complete:
        return Cut(slices, seek + window_frames, complete)
    # The model had not finished its last sentence: it hears it again from its beginning.
    heard_frames = (tokens[ends[-1] - 1] - timestamp_begin) * _FRAMES_PER_TIMESTAMP
    return Cut(slices, seek + heard_frames, complete)


def _uncut(tokens: Sequence[int], timestamp_begin: int, offset_s: float, window_frames: int) -> Slice:
    """The whole window as one slice, up to the last timestamp where there is one."""
    duration_s = window_frames / FRAMES_PER_S
    timestamps = [token for token in tokens if token >= timestamp_begin]
    if timestamps and timestamps[-1] != timestamp_begin:
        duration_s = (timestamps[-1] - timestamp_begin) * _TIMESTAMP_S
    return Slice(offset_s, offset_s + duration_s, tuple(tokens))


def advanced(seek: int, next_seek: int) -> int:
    """`next_seek`, but never so near to `seek` that a request would stand still."""
    return max(next_seek, seek + MIN_ADVANCE_FRAMES)


def compression_ratio(text: str) -> float:
    """Length of a text over its length compressed; high values mean repetition."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded))
