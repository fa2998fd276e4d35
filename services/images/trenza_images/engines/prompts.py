"""What of a prompt reaches a pipeline's text encoders, by their own tokenizers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_LONGEST = 100_000
"""Tokenizers that know no limit say so with a number beyond all reason."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a prompt was read: its tokens, and the rest of it that no encoder saw."""

    tokens: int
    left_out: str


def read(pipe: Any, prompt: str) -> Reading:
    """Reads a prompt with the tokenizer that takes in most of it."""
    readings = [
        _read(tokenizer, prompt, _limit(pipe, name, tokenizer))
        for name in _TOKENIZERS
        if (tokenizer := getattr(pipe, name, None)) is not None
    ]
    return min(readings, key=lambda reading: len(reading.left_out), default=Reading(0, ""))


def _limit(pipe: Any, name: str, tokenizer: Any) -> int:
    """How many tokens go to the encoder: what the tokenizer says, or, where it pads for a T5, what the call's signature says."""
    limit = int(getattr(tokenizer, "model_max_length", _LONGEST))
    parameter = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    if parameter is not None and isinstance(parameter.default, int) and "CLIP" not in type(tokenizer).__name__:
        return parameter.default
    return limit if limit < _LONGEST else _LONGEST


def _read(tokenizer: Any, prompt: str, limit: int) -> Reading:
    special = int(tokenizer.num_special_tokens_to_add())
    if getattr(tokenizer, "is_fast", False):
        offsets = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        kept = min(len(offsets), limit - special)
        return Reading(kept, prompt[offsets[kept][0] :] if kept < len(offsets) else "")
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    kept = min(len(ids), limit - special)
    return Reading(kept, tokenizer.decode(ids[kept:]))
