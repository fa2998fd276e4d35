"""The rule that decides which combinations are never shown in training."""

from __future__ import annotations

from hashlib import sha256

SHARE_PERCENT = 15


def is_held_out(key: str) -> bool:
    """Whether the combination named by `key` is kept for questions and never trained on.

    The rule is a hash of the key alone, so it is the same on every machine and needs no list.
    """
    first_bytes = sha256(key.encode("utf-8")).digest()[:4]
    return int.from_bytes(first_bytes, "big") % 100 < SHARE_PERCENT
