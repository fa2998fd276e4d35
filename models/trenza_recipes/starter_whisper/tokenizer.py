"""The tokenizer: every word of the small world is one token, anything else goes byte by byte; then Whisper's special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trenza_recipes.starter_whisper.world import LANGUAGES, vocabulary

_IN_ORDER = """
    en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy
    sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz
    fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue
"""
WHISPER_LANGUAGES = tuple(_IN_ORDER.split())
"""The order in which Whisper numbers its hundred languages, which its readers take for granted."""

TIMESTAMP_STEP_S = 0.02
TIMESTAMPS = 1501

_BETWEEN = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def byte_letters() -> list[str]:
    """The printable letter that byte-level tokenizers write for each of the 256 bytes."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    odd = (byte for byte in range(256) if byte not in plain)
    shifted = {byte: 256 + place for place, byte in enumerate(odd)}
    return [chr(shifted.get(byte, byte)) for byte in range(256)]


_LETTERS = byte_letters()


def _in_letters(text: str) -> str:
    return "".join(_LETTERS[byte] for byte in text.encode())


@dataclass(frozen=True)
class Tokens:
    """The numbering of tokens: bytes, words, an empty string, special tokens, timestamps."""

    pieces: tuple[str, ...] = field(
        default_factory=lambda: (
            *_LETTERS,
            *dict.fromkeys(_in_letters(f" {word}") for language in LANGUAGES for word in vocabulary(language)),
            "",  # CTranslate2 takes a vocabulary with an empty string for a multilingual Whisper
        )
    )

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate((*self.pieces, *self.specials, *self.timestamps))}

    @property
    def specials(self) -> tuple[str, ...]:
        """From the end of a text to `<|notimestamps|>`."""
        languages = (f"<|{code}|>" for code in WHISPER_LANGUAGES)
        return ("<|endoftext|>", "<|startoftranscript|>", *languages, *_BETWEEN)

    @property
    def timestamps(self) -> tuple[str, ...]:
        """`<|0.00|>` to `<|30.00|>`."""
        return tuple(f"<|{step * TIMESTAMP_STEP_S:.2f}|>" for step in range(TIMESTAMPS))

    def __len__(self) -> int:
        return len(self._ids)

    def special(self, name: str) -> int:
        """The id of `<|name|>`. Raises KeyError for a name there is not."""
        return self._ids[f"<|{name}|>"]

    def byte(self, letter: str) -> int:
        """The id of an ASCII letter that stands alone."""
        return self._ids[_in_letters(letter)]

    @property
    def first_timestamp(self) -> int:
        """The id of `<|0.00|>`."""
        return self.special("0.00")

    def timestamp(self, seconds: float) -> int:
        """The id of the timestamp nearest to `seconds`, within 0 and 30 s."""
        return self.first_timestamp + min(TIMESTAMPS - 1, max(0, round(seconds / TIMESTAMP_STEP_S)))

    def words(self, words: Iterable[str]) -> list[int]:
        """One id for each word. Raises KeyError for a word outside the small world."""
        return [self._ids[_in_letters(f" {word}")] for word in words]

    def file(self) -> dict[str, Any]:
        """What `tokenizer.json` says."""
        specials = [(name, True) for name in self.specials] + [(name, False) for name in self.timestamps]
        added = [
            {"id": self._ids[name], "content": name, "special": special}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for name, special in specials
        ]
        model = {"type": "BPE", "vocab": {piece: self._ids[piece] for piece in self.pieces}, "merges": []}
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": model | {"ignore_merges": True},
        }

    def file_text(self) -> str:
        """`tokenizer.json` as text."""
        return json.dumps(self.file(), ensure_ascii=False)
