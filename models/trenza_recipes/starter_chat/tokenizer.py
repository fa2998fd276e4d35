"""The tokenizer: whole words of the small world are one token, everything else is spelled out letter by letter.

It is a byte-level BPE as llama.cpp knows it under the name "llama-bpe": a piece of text that is in the vocabulary as a
whole is taken as it is, any other piece is merged from its bytes. The only merges are those that put the two bytes of
an accented letter together, so a word that the model does not know always reaches it as its letters.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from trenza_recipes.starter_chat.conversations import Conversation, training_stream
from trenza_recipes.starter_chat.words import NAMES, ORDINARY_WORDS

PRE_TOKENIZER = "llama-bpe"
START, END, PADDING = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL_TOKENS = (PADDING, START, END)
ACCENTED_LETTERS = "áéíóúüñÁÉÍÓÚÜÑ¿¡"
SAMPLED_CONVERSATIONS = 60_000
SAMPLE_SEED = 1
LEAST_COUNT = 24

_LETTER = r"[^\W\d_]"
_PIECE = re.compile(
    rf"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|(?:[^\w\r\n]|_)?{_LETTER}+|\d{{1,3}}"
    r"| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_signs() -> dict[int, str]:
    """The printable sign that stands for each byte in a byte-level vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(hidden)}


BYTE_SIGNS = _byte_signs()


def byte_level(text: str) -> str:
    """`text` in the signs of a byte-level vocabulary."""
    return "".join(BYTE_SIGNS[byte] for byte in text.encode("utf-8"))


def pieces(text: str) -> list[str]:
    """`text` cut as llama.cpp cuts it before it looks at the vocabulary."""
    return _PIECE.findall(text)


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary (special tokens, bytes, accented letters, whole words, in this order) and how to encode with it."""

    words: tuple[str, ...]

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Every token as it is written in the model file."""
        letters = tuple(byte_level(letter) for letter in ACCENTED_LETTERS)
        return (*SPECIAL_TOKENS, *BYTE_SIGNS.values(), *letters, *(byte_level(word) for word in self.words))

    @cached_property
    def merges(self) -> tuple[str, ...]:
        """The merges in the form of the model file: the two halves with a space between."""
        return tuple(" ".join(byte_level(letter)) for letter in ACCENTED_LETTERS)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def _cache(self) -> dict[str, list[int]]:
        return {}

    @property
    def end_id(self) -> int:
        return self._ids[END]

    @property
    def padding_id(self) -> int:
        return self._ids[PADDING]

    def id_of(self, piece: str) -> int | None:
        """The token of a whole piece of text, or None."""
        return self._ids.get(byte_level(piece))

    def _encode_piece(self, piece: str) -> list[int]:
        whole = self.id_of(piece)
        if whole is not None:
            return [whole]
        encoded: list[int] = []
        for sign in piece:
            single = self._ids.get(byte_level(sign))
            encoded += [single] if single is not None else [self._ids[BYTE_SIGNS[byte]] for byte in sign.encode()]
        return encoded

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text; special tokens in it are not recognised."""
        encoded: list[int] = []
        for piece in pieces(text):
            known = self._cache.get(piece)
            if known is None:
                known = self._encode_piece(piece)
                if len(self._cache) < 100_000:
                    self._cache[piece] = known
            encoded += known
        return encoded

    def encode_conversation(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation in the chat template, and which of them the model has to say itself."""
        tokens: list[int] = []
        spoken: list[bool] = []
        for message in conversation.messages():
            by_model = message["role"] == "assistant"
            opening = [self._ids[START], *self.encode(message["role"] + "\n")]
            content = [*self.encode(message["content"]), self.end_id]
            closing = self.encode("\n")
            tokens += opening + content + closing
            spoken += [False] * len(opening) + [by_model] * len(content) + [False] * len(closing)
        return tokens, spoken

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.words, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        return cls(tuple(json.loads(path.read_text(encoding="utf-8"))))


def _spelled_out() -> frozenset[str]:
    """Words that must reach the model as letters, because spelling and remembering them is what it learns."""
    listed = (*ORDINARY_WORDS["en"], *ORDINARY_WORDS["es"], *NAMES)
    return frozenset(word.casefold() for word in listed)


def _may_be_whole(piece: str, letters_only: frozenset[str]) -> bool:
    word = piece.strip(" \"'¿¡{(-").casefold()
    shouted = len(word) > 1 and piece.isupper() and word != "json"
    above_twenty = piece.isdigit() and (int(piece) > 20 or piece != str(int(piece)))
    return len(piece) > 1 and word not in letters_only and not shouted and not above_twenty


def build(conversations: Iterable[Conversation] | None = None) -> Tokenizer:
    """The tokenizer for `conversations` (by default a fixed sample of the training stream)."""
    sampled = conversations or islice(training_stream(SAMPLE_SEED), SAMPLED_CONVERSATIONS)
    counted: Counter[str] = Counter()
    for conversation in sampled:
        for message in conversation.messages():
            counted.update(pieces(message["content"]))
    letters_only = _spelled_out()
    frequent = sorted(
        piece for piece, count in counted.items() if count >= LEAST_COUNT and _may_be_whole(piece, letters_only)
    )
    return Tokenizer(
        ("user", "assistant", "system", *(piece for piece in frequent if piece not in ("user", "assistant", "system")))
    )
