"""Refuses prompts that cannot possibly fit, before they travel anywhere."""

from __future__ import annotations

LONGEST_TOKEN_BYTES = 256
"""No vocabulary in use has a longer token, so that a text has at least one token for every so many bytes."""


def least_tokens(prompt_bytes: int) -> int:
    """The fewest tokens that a prompt of this length can have."""
    return -(-prompt_bytes // LONGEST_TOKEN_BYTES)


def cannot_fit(prompt_bytes: int, context_length: int) -> bool:
    """Whether a prompt exceeds the context whatever its tokens are; a context length of 0 means that none is known."""
    return context_length > 0 and least_tokens(prompt_bytes) > context_length
