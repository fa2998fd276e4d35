"""What of a text is spoken: its words and marks, without what only machines can see."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible, yet part of the spelling in Persian and the languages of India."""
_SPOKEN = frozenset("LNS")
"""Categories of characters that have a sound or a name: letters, numbers, symbols."""
_BREAKS = "\n\r\v\f\x85\u2028\u2029"


def clean(text: str) -> str:
    """The text in its composed form, without control characters and other invisible ones; line breaks stay."""
    return "".join(_kept(character) for character in unicodedata.normalize("NFC", text)).strip()


def _kept(character: str) -> str:
    if character in _BREAKS:
        return "\n"
    category = unicodedata.category(character)
    if category in ("Cc", "Zs"):
        return " "
    return character if category[0] != "C" or character in _JOINERS else ""


def speakable(text: str) -> bool:
    """Whether there is anything in a text that has a sound: marks alone have none."""
    return any(unicodedata.category(character)[0] in _SPOKEN for character in text)
