"""The words of tokens: text as it becomes complete, and the bytes of single ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

_MOST_PENDING = 8
"""So many tokens in a row without a whole character are no character that is still to come."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_START = "\u2581"
"""How sentence pieces write a space."""


class Wording:
    """The text of one answer, token by token, as the tokenizer itself would write it."""

    def __init__(self, tokenizer: Any, special_text: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = not special_text
        self._tokens: list[int] = []
        self._begin = self._shown = 0

    def feed(self, token: int) -> str:
        """Adds a token and returns the text that it completes; that of half a character comes later."""
        self._tokens.append(token)
        return self._advance(final=len(self._tokens) - self._shown > _MOST_PENDING)

    def finish(self) -> str:
        """The rest, with U+FFFD for what never became a character."""
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        """Compares with the text before the last tokens: what a token looks like depends on those that it follows."""
        before = self._text(self._tokens[self._begin : self._shown])
        now = self._text(self._tokens[self._begin :])
        if now.endswith("\ufffd") and not final:
            return ""
        self._begin, self._shown = self._shown, len(self._tokens)
        return now[len(before) :]

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False)
        return text


class TokenBytes:
    """The bytes of single tokens, which may be half a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._letters = _byte_letters() if backend is not None and "ByteLevel" in repr(backend.decoder) else {}
        self.special = frozenset(tokenizer.all_special_ids)
        """The tokens that are no text."""

    def of(self, token: int) -> bytes:
        """The token's bytes; none for a number that is not in the vocabulary."""
        written = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(written, str):
            return b""
        if match := _BYTE.fullmatch(written):
            return bytes([int(match[1], 16)])
        if token not in self.special and all(letter in self._letters for letter in written):
            return bytes(self._letters[letter] for letter in written)
        return written.replace(_WORD_START, " ").encode()


@cache
def _byte_letters() -> Mapping[str, int]:
    """Byte-level vocabularies write each byte as a letter: printable ones as themselves, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
