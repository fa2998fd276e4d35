"""A model's tokens as llama.cpp knows them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from llama_cpp import llama_cpp as native

_UNSEEN_CONTROL = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_UNKNOWN
"""The kinds of token that llama.cpp recognises in text only when it is told to parse special tokens."""

# The regular expressions of some vocabularies (DeepSeek, Mistral Nemo, GPT-4o …) recurse for every character of a long
# word, 319 bytes deep each time: a client's hundred thousand equal characters would overrun an ordinary stack.
_SHALLOW_BYTES = 4096
_STACK_PER_BYTE = 384
_STACK_RESERVE = 1 << 20


class LlamaVocabulary:
    """Implements `Vocabulary`; valid as long as the model is loaded."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self.size: int = native.llama_vocab_n_tokens(pointer)
        texts = [native.llama_vocab_get_text(pointer, token) or b"" for token in range(self.size)]
        attributes = [native.llama_vocab_get_attr(pointer, token) for token in range(self.size)]
        self.control_texts = frozenset(
            text.decode(errors="replace")
            for text, attribute in zip(texts, attributes, strict=True)
            if attribute & _UNSEEN_CONTROL
        )
        self.longest_token_bytes = max(map(len, texts), default=0)
        self.end_tokens = frozenset(token for token in range(self.size) if native.llama_vocab_is_eog(pointer, token))
        self._bos = native.llama_vocab_bos(pointer)
        self._eos = native.llama_vocab_eos(pointer)
        self.bos = self._bos if native.llama_vocab_get_add_bos(pointer) and self._bos >= 0 else None
        self._pieces: dict[tuple[int, bool], bytes] = {}

    @property
    def bos_text(self) -> str:
        """What chat templates call `bos_token`, empty if there is none."""
        return self._text(self._bos)

    @property
    def eos_text(self) -> str:
        """What chat templates call `eos_token`, empty if there is none."""
        return self._text(self._eos)

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        """See `Vocabulary`."""
        data = text.encode()
        if len(data) <= _SHALLOW_BYTES:
            return self._tokenize(data, parse_special)
        return _on_deep_stack(lambda: self._tokenize(data, parse_special), len(data) * _STACK_PER_BYTE)

    def piece(self, token: int, special: bool) -> bytes:
        """See `Vocabulary`."""
        key = (token, special)
        known = self._pieces.get(key)
        if known is None:
            known = self._pieces[key] = self._piece(token, special)
        return known

    def ends_text(self, token: int) -> bool:
        """See `Vocabulary`."""
        return token in self.end_tokens

    def _tokenize(self, data: bytes, parse_special: bool) -> list[int]:
        room = len(data) + 8
        tokens = (native.llama_token * room)()
        count = native.llama_tokenize(self.pointer, data, len(data), tokens, room, False, parse_special)
        if count < 0:  # more tokens than bytes: the normalisation of some vocabularies adds characters
            room = -count
            tokens = (native.llama_token * room)()
            count = native.llama_tokenize(self.pointer, data, len(data), tokens, room, False, parse_special)
        return list(tokens[: max(count, 0)])

    def _piece(self, token: int, special: bool) -> bytes:
        self._check(token)  # llama.cpp ends the process on a token it does not know
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = native.llama_token_to_piece(self.pointer, token, buffer, room, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def _text(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes = native.llama_vocab_get_text(self.pointer, token) or b""
        return text.decode(errors="replace")

    def _check(self, token: int) -> None:
        if not 0 <= token < self.size:
            raise ValueError(f"token {token} is not in the vocabulary of {self.size} tokens")


def _on_deep_stack(work: Callable[[], list[int]], stack_bytes: int) -> list[int]:
    """Does the work in a thread with so much stack, of which only what is used takes memory. Raises MemoryError."""
    results: list[list[int]] = []
    before = threading.stack_size((stack_bytes + _STACK_RESERVE) // 4096 * 4096)
    try:
        thread = threading.Thread(target=lambda: results.append(work()))
        thread.start()
    except RuntimeError as error:
        raise MemoryError(f"no room for a stack of {stack_bytes} bytes") from error
    finally:
        threading.stack_size(before)
    thread.join()
    return results[0]
