"""Names of stored pictures: when they expire, 192 random bits, and what they are.

The time is in the name so that every store, every gateway and every restart knows it without asking further.
"""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass

SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_MEDIA_TYPES = {suffix: media_type for media_type, suffix in SUFFIXES.items()}
RANDOM_BYTES = 24
_TOKEN = re.compile(r"([0-9a-f]{10})-[A-Za-z0-9_-]{32}\.(png|jpg|webp)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A name. Names of one length sort by their expiry, which is in seconds since the Unix epoch."""

    text: str
    expires_unix_s: int
    media_type: str


def new_token(expires_unix_s: float, media_type: str) -> Token:
    """A name that nobody has and nobody can guess, for one of the media types in `SUFFIXES`."""
    expires = math.ceil(expires_unix_s)
    return Token(f"{expires:010x}-{secrets.token_urlsafe(RANDOM_BYTES)}.{SUFFIXES[media_type]}", expires, media_type)


def read_token(text: str) -> Token | None:
    """The token of that name; None for whatever is none, so that no other file can be named."""
    found = _TOKEN.fullmatch(text)
    return Token(text, int(found[1], 16), _MEDIA_TYPES[found[2]]) if found else None
