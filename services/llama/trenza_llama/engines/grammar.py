"""Grammars that an answer must follow, compiled by llama.cpp."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_cpp import llama_cpp as native
from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf

from trenza_llama.device import GrammarError
from trenza_llama.engine import GbnfGrammar, Grammar, JsonObjectGrammar, JsonSchemaGrammar
from trenza_llama.engines.native_log import recorded
from trenza_llama.engines.vocabulary import LlamaVocabulary

_MAX_CHARS = 256 * 1024
_MAX_DEPTH = 128
"""llama.cpp parses and follows grammars recursively; deeper nesting could overrun its stack."""


_PARSE_ERROR = "parse: error parsing grammar: "
_MAX_MESSAGE_CHARS = 300


class CompiledGrammar:
    """A grammar and how far the answer has come in it. Raises GrammarError when it cannot be compiled."""

    def __init__(self, grammar: Grammar, vocabulary: LlamaVocabulary) -> None:
        text = _gbnf(grammar)
        _check(text)
        with recorded() as log, _captured_stderr() as written:
            self._sampler = native.llama_sampler_init_grammar(vocabulary.pointer, text.encode(), b"root")
        if not bool(self._sampler):  # a NULL pointer is not None
            errors = [*written, *log.errors(), "it cannot be parsed"]
            raise GrammarError(f"the grammar is not valid: {errors[0].removeprefix(_PARSE_ERROR)}"[:_MAX_MESSAGE_CHARS])
        self._single = native.llama_token_data()
        self._array = native.llama_token_data_array(ctypes.pointer(self._single), 1, -1, False)

    def allows(self, token: int) -> bool:
        """Whether the answer may go on with this token."""
        self._single.id, self._single.logit = token, 1.0
        self._array.size = 1
        native.llama_sampler_apply(self._sampler, ctypes.byref(self._array))
        return math.isfinite(self._single.logit)

    def restrict(self, candidates: Any) -> None:
        """Sets the logit of every candidate that is not allowed to minus infinity."""
        native.llama_sampler_apply(self._sampler, ctypes.byref(candidates))

    def accept(self, token: int) -> None:
        """Goes on with a token, which must be allowed: llama.cpp would end the process otherwise."""
        native.llama_sampler_accept(self._sampler, token)

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
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _gbnf(grammar: Grammar) -> str:
    match grammar:
        case JsonObjectGrammar():
            return JSON_GBNF  # type: ignore[no-any-return]  # llama_cpp has no type information
        case GbnfGrammar(text):
            return text
        case JsonSchemaGrammar(schema):
            return _from_schema(schema)


def _from_schema(schema: str) -> str:
    if len(schema) > _MAX_CHARS:
        raise GrammarError(f"the JSON schema has more than {_MAX_CHARS} characters")
    try:
        text: str = json_schema_to_gbnf(schema)
    except Exception as error:  # the converter raises whatever comes up: KeyError, AssertionError, RecursionError …
        raise GrammarError(f"the JSON schema cannot be turned into a grammar: {error!r}") from error
    return text


def _check(text: str) -> None:
    if not text.strip():
        raise GrammarError("the grammar is empty")
    if len(text) > _MAX_CHARS:
        raise GrammarError(f"the grammar has more than {_MAX_CHARS} characters")
    if "\0" in text:
        raise GrammarError("the grammar contains a NUL character")
    depth = deepest = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise GrammarError(f"the grammar is nested deeper than {_MAX_DEPTH} levels")
