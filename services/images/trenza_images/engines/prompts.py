"""What of a prompt reaches a pipeline's text encoders, by their own tokenizers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_LONGEST = 100_000
"""Tokenizers that know no limit say so with a number beyond all reason."""


_HEAD_CHARS_PER_TOKEN = 16
"""What is read of a prompt at first, for each token that there is room for; few words need more."""
_MARGIN_TOKENS = 64
_MARGIN_CHARS = 1000
"""The word at a cut is to be whole, since how a word is split depends on its end."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a prompt was read: its tokens, the rest of it that no encoder saw, and as much of it as need be given to the pipeline."""

    tokens: int
    left_out: str
    given: str


def read(pipe: Any, prompt: str) -> Reading:
    """Reads a prompt with the tokenizer that takes in most of it."""
    readings = [
        _read(tokenizer, prompt, _limit(pipe, name, tokenizer))
        for name in _TOKENIZERS
        if (tokenizer := getattr(pipe, name, None)) is not None
    ]
    return min(readings, key=lambda reading: len(reading.left_out), default=Reading(0, "", prompt))


def _limit(pipe: Any, name: str, tokenizer: Any) -> int:
    """How many tokens go to the encoder: what the tokenizer says, or, where it pads for a T5, what the call's signature says."""
    limit = int(getattr(tokenizer, "model_max_length", _LONGEST))
    parameter = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    if parameter is not None and isinstance(parameter.default, int) and "CLIP" not in type(tokenizer).__name__:
        return parameter.default
    return limit if limit < _LONGEST else _LONGEST


def _read(tokenizer: Any, prompt: str, limit: int) -> Reading:
    room = max(1, limit - int(tokenizer.num_special_tokens_to_add()))
    if not getattr(tokenizer, "is_fast", False):
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return Reading(min(len(ids), room), tokenizer.decode(ids[room:]), prompt)
    offsets = _offsets(tokenizer, prompt, room)
    if len(offsets) <= room:
        return Reading(len(offsets), "", prompt)
    cut = offsets[room][0]
    return Reading(room, prompt[cut:], prompt[: cut + _MARGIN_CHARS])


def _offsets(tokenizer: Any, prompt: str, room: int) -> Sequence[tuple[int, int]]:
    """Where the tokens of a prompt begin and end, as far as there is room for them: a long prompt is not read to its end."""
    head_chars = _HEAD_CHARS_PER_TOKEN * (room + _MARGIN_TOKENS)
    while True:
        encoded = tokenizer(prompt[:head_chars], add_special_tokens=False, return_offsets_mapping=True)
        offsets: Sequence[tuple[int, int]] = encoded["offset_mapping"]
        if head_chars >= len(prompt) or len(offsets) > room + _MARGIN_TOKENS:
            return offsets
        head_chars *= 4
