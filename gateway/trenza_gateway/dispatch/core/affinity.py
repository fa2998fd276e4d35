"""What a ticket says about a prompt without showing it: hashes of its beginnings, and its size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

BLOCK_BYTES = 4_096
MAX_HASHES = 32
GUESSED_OUTPUT_TOKENS = 256
BYTES_PER_TOKEN = 4


def prefix_hashes(pieces: Iterable[bytes]) -> list[int]:
    """64-bit hashes of ever longer beginnings of a prompt, shortest first.

    A beginning ends where a piece ends (a turn of the conversation) and after every block inside a long piece. Of more
    than `MAX_HASHES`, those of the shortest and of the longest beginnings are kept.
    """
    running = blake2b(digest_size=8)
    hashes: list[int] = []
    for piece in pieces:
        for start in range(0, max(len(piece), 1), BLOCK_BYTES):
            running.update(piece[start : start + BLOCK_BYTES])
            hashes.append(int.from_bytes(running.copy().digest(), "big"))
        running.update(b"\0")
    return _thinned(hashes)


def _thinned(hashes: Sequence[int]) -> list[int]:
    if len(hashes) <= MAX_HASHES:
        return list(hashes)
    half = MAX_HASHES // 2
    return [*hashes[:half], *hashes[-half:]]


def size_estimate(prompt_bytes: int, max_tokens: int | None, choices: int) -> int:
    """Tokens in and out, roughly; what fits the ticket's 32 bits."""
    out = (GUESSED_OUTPUT_TOKENS if max_tokens is None else min(max_tokens, 2**20)) * max(choices, 1)
    return min(prompt_bytes // BYTES_PER_TOKEN + out, 2**32 - 1)
