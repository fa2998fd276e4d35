"""Grammars that an answer must follow, compiled by llama.cpp."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from trenza_llama.core.gbnf import GbnfError, check
from trenza_llama.core.json_schema import SchemaError, to_gbnf
from trenza_llama.device import GrammarError, NoTokenError
from trenza_llama.engine import GbnfGrammar, Grammar, JsonObjectGrammar, JsonSchemaGrammar
from trenza_llama.engines.native_log import recorded
from trenza_llama.engines.vocabulary import LlamaVocabulary

_PARSE_ERROR = "parse: error parsing grammar: "
_MAX_MESSAGE_CHARS = 300

_PORTION = 128
_PATIENCE_S = 3.0
_PATIENCE_PER_TOKEN_S = 0.05
"""Processor time; checking a vocabulary of 150,000 tokens against a usual grammar takes 5 to 20 ms."""


class CompiledGrammar:
    """A grammar and how far the answer has come in it. Raises GrammarError when it cannot be compiled."""

    def __init__(self, grammar: Grammar, vocabulary: LlamaVocabulary) -> None:
        text = _gbnf(grammar)
        with recorded() as log, _captured_stderr() as written:
            self._sampler = native.llama_sampler_init_grammar(vocabulary.pointer, text.encode(), b"root")
        if not bool(self._sampler):  # a NULL pointer is not None
            errors = [*written, *log.errors(), "it cannot be parsed"]
            raise GrammarError(f"the grammar is not valid: {errors[0].removeprefix(_PARSE_ERROR)}"[:_MAX_MESSAGE_CHARS])
        self._patience_s = _PATIENCE_S
        self._single = native.llama_token_data()
        self._array = native.llama_token_data_array(ctypes.pointer(self._single), 1, -1, False)

    def allows(self, token: int) -> bool:
        """Whether the answer may go on with this token."""
        self._single.id, self._single.logit = token, 1.0
        self._array.size = 1
        native.llama_sampler_apply(self._sampler, ctypes.byref(self._array))
        return math.isfinite(self._single.logit)

    def restrict(self, candidates: NDArray[Any]) -> None:
        """Sets the `logit` of every candidate that is not allowed to minus infinity.

        Raises NoTokenError when the grammar has taken more time than any sensible one needs.
        """
        started_s = time.thread_time()
        for start in range(0, len(candidates), _PORTION):
            portion = candidates[start : start + _PORTION]
            pointer = portion.ctypes.data_as(ctypes.POINTER(native.llama_token_data))
            array = native.llama_token_data_array(pointer, len(portion), -1, False)
            native.llama_sampler_apply(self._sampler, ctypes.byref(array))
            if time.thread_time() - started_s > self._patience_s:
                raise NoTokenError("GRAMMAR_TOO_SLOW", "the grammar takes too long to follow")
        self._patience_s -= time.thread_time() - started_s

    def accept(self, token: int) -> None:
        """Goes on with a token, which must be allowed: llama.cpp would end the process otherwise."""
        native.llama_sampler_accept(self._sampler, token)
        self._patience_s += _PATIENCE_PER_TOKEN_S

    def close(self) -> None:
        """Frees the grammar."""
        if self._sampler is not None:
            native.llama_sampler_free(self._sampler)
            self._sampler = None


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Collects what is written to standard error during the block: llama.cpp's grammar parser knows no other way."""
    lines: list[str] = []
    sys.stderr.flush()
    with _file_in_memory() as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _file_in_memory() -> IO[bytes]:
    """A file, and not a pipe, because nobody reads it meanwhile; in memory where the system can, as disks may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("grammar-errors"), "w+b")
    return tempfile.TemporaryFile()


def _gbnf(grammar: Grammar) -> str:
    try:
        match grammar:
            case JsonObjectGrammar():
                text = to_gbnf('{"type": "object"}')
            case JsonSchemaGrammar(schema, strict):
                text = to_gbnf(schema, strict)
            case GbnfGrammar(text):
                pass
        check(text)
    except (SchemaError, GbnfError) as error:
        raise GrammarError(str(error)) from error
    return text
