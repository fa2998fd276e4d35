"""The memory of batches, reused by every step. llama.cpp ends the process on a batch that breaks its rules."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from trenza_llama.device import Feed
from trenza_llama.engines.projector import EncodedPicturePart


class Batch:
    """What a batch of tokens and one of pictures have in common: whose slots they are for, which logits they want."""

    def __init__(self, capacity: int, max_rows: int) -> None:
        self._capacity = capacity
        self._max_rows = max_rows
        self._slot_counts = np.ones(capacity, dtype=np.int32)
        self._slots = np.zeros(capacity, dtype=np.int32)
        self._wanted = np.zeros(capacity, dtype=np.int8)
        addresses = self._slots.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self._slot_pointers: NDArray[np.uint64] = addresses.astype(np.uint64)
        self._count = 0
        self.native = native.llama_batch(
            n_tokens=0,
            token=None,
            embd=None,
            pos=None,
            n_seq_id=_pointer(self._slot_counts, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointers, ctypes.POINTER(native.llama_seq_id)),
            logits=_pointer(self._wanted, ctypes.c_int8),
        )

    def check_row(self, row: int) -> None:
        """Raises IndexError for a token whose logits were not asked for."""
        if not (0 <= row < self._count and self._wanted[row]):
            raise IndexError(f"no logits were asked for in row {row}")

    def _begin(self, feeds: Sequence[Feed]) -> None:
        self._count = self.native.n_tokens = sum(len(feed.tokens) for feed in feeds)
        if self._count > self._capacity or sum(feed.rows for feed in feeds) > self._max_rows:
            raise ValueError(f"the batch is larger than {self._capacity} tokens or {self._max_rows} rows")

    def _address(self, feed: Feed, start: int, end: int) -> int:
        """Notes whose tokens the batch has there; returns the number of the feed's first row."""
        self._slots[start:end] = feed.slot
        self._wanted[start:end] = 0
        self._wanted[end - feed.rows : end] = 1
        return end - feed.rows


class TokenBatch(Batch):
    """A batch of text."""

    def __init__(self, capacity: int, max_rows: int) -> None:
        super().__init__(capacity, max_rows)
        self._tokens = np.zeros(capacity, dtype=np.int32)
        self._positions = np.zeros(capacity, dtype=np.int32)
        self.native.token = _pointer(self._tokens, native.llama_token)
        self.native.pos = _pointer(self._positions, native.llama_pos)

    def fill(self, feeds: Sequence[Feed]) -> list[int]:
        """Takes the tokens of the feeds; returns the number of each feed's first row."""
        self._begin(feeds)
        first_rows = []
        start = 0
        for feed in feeds:
            end = start + len(feed.tokens)
            self._tokens[start:end] = feed.tokens
            self._positions[start:end] = range(feed.position, feed.position + len(feed.tokens))
            first_rows.append(self._address(feed, start, end))
            start = end
        return first_rows


class PictureBatch(Batch):
    """A batch of parts of pictures; `sections` is how many numbers the model's positions have."""

    def __init__(self, capacity: int, max_rows: int, width: int, sections: int) -> None:
        super().__init__(capacity, max_rows)
        self._sections = sections
        self._embeddings = np.zeros((capacity, width), dtype=np.float32)
        self._positions = np.zeros(sections * capacity, dtype=np.int32)
        self.native.embd = _pointer(self._embeddings, ctypes.c_float)
        self.native.pos = _pointer(self._positions, native.llama_pos)

    def fill(self, feeds: Sequence[Feed]) -> list[int]:
        """Takes what the feeds show of pictures; returns the number of each feed's first row."""
        self._begin(feeds)
        # llama.cpp reads all first numbers, then all second ones, and so on.
        positions = self._positions[: self._sections * self._count].reshape(self._sections, self._count)
        first_rows = []
        start = 0
        for feed in feeds:
            count = len(feed.tokens)
            end = start + count
            part = part_of(feed)
            self._embeddings[start:end] = part.embeddings[feed.offset : feed.offset + count]
            positions[:, start:end] = part.positions(feed.position, self._sections)[
                :, feed.offset : feed.offset + count
            ]
            first_rows.append(self._address(feed, start, end))
            start = end
        return first_rows


def part_of(feed: Feed) -> EncodedPicturePart:
    """The part of a picture that a feed shows. Raises TypeError for a feed of text."""
    if not isinstance(feed.part, EncodedPicturePart):
        raise TypeError("a batch holds text or pictures, never both")
    return feed.part


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
