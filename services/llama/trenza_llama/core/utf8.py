"""Puts text together from the bytes of tokens, whose borders may fall inside a character."""

from __future__ import annotations

import codecs


class Utf8Assembler:
    """Turns pieces of UTF-8 into text as soon as whole characters are there.

    Bytes that can still become a character are held back; bytes that never can are replaced by U+FFFD.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """Adds bytes and returns the characters that they complete."""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Ends the text: what is still held back can no longer become a character and comes out as U+FFFD."""
        return self._decoder.decode(b"", final=True)
