"""Chooses tokens: penalties and bias in numpy on the few tokens concerned, the rest by llama.cpp's samplers."""

from __future__ import annotations

import ctypes
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from trenza_llama.device import GrammarError, NoTokenError, Sampled
from trenza_llama.engine import GenerateRequest, Sampling, TokenAlternative, TokenLogprob
from trenza_llama.engines.grammar import CompiledGrammar
from trenza_llama.engines.vocabulary import LlamaVocabulary

Row = NDArray[np.float32]

_REPEAT_WINDOW = 64
_GREEDY_BELOW = 1e-3
"""Temperatures below this divide logits into infinity; they mean greedy."""

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Rows(Protocol):
    """Where the logits of the last batch are."""

    def logits(self, row: int) -> Row:
        """The logits of a row, in llama.cpp's own memory: changes to them are seen by its samplers."""

    def native_sample(self, chain: Any, row: int) -> int:
        """Lets a chain of llama.cpp's samplers choose."""


class LlamaSampler:
    """Implements `Sampler` for one request. Raises GrammarError when the request's grammar cannot be compiled."""

    def __init__(
        self, rows: Rows, vocabulary: LlamaVocabulary, request: GenerateRequest, prompt: Sequence[int]
    ) -> None:
        self._rows = rows
        self._vocabulary = vocabulary
        self._top_logprobs = request.top_logprobs
        self._penalties = Penalties(request, vocabulary, prompt)
        self._chain = _chain(request.sampling)
        self._grammar: CompiledGrammar | None = None
        if request.grammar is not None:
            try:
                self._grammar = CompiledGrammar(request.grammar, vocabulary)
            except GrammarError:
                self.close()
                raise

    def sample(self, row: int) -> Sampled:
        """See `Sampler`."""
        logits = self._rows.logits(row)
        # Not-a-number would make llama.cpp's sorting read beyond its arrays.
        if not np.isfinite(logits.max()):
            raise NoTokenError("MODEL_OUTPUT_INVALID", "the model's output is not a number")
        original = logits.copy() if self._top_logprobs is not None else None
        self._penalties.apply(logits)
        token = self._choose(row, logits)
        self._penalties.remember(token)
        if original is None or self._top_logprobs is None:
            return Sampled(token, None)
        return Sampled(token, logprob(original, token, self._top_logprobs, self._vocabulary))

    def close(self) -> None:
        """See `Sampler`."""
        if self._chain is not None:
            native.llama_sampler_free(self._chain)
            self._chain = None
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None

    def _choose(self, row: int, logits: Row) -> int:
        """Chooses freely first: checking one token against the grammar is a hundred times cheaper than checking all."""
        token = int(logits.argmax()) if self._chain is None else self._rows.native_sample(self._chain, row)
        if self._grammar is None:
            return token
        if not self._grammar.allows(token):
            token = self._choose_restricted(self._grammar, logits)
        self._grammar.accept(token)
        return token

    def _choose_restricted(self, grammar: CompiledGrammar, logits: Row) -> int:
        candidates = np.zeros(len(logits), dtype=_CANDIDATE)
        candidates["id"] = np.arange(len(logits), dtype=np.int32)
        candidates["logit"] = logits
        grammar.restrict(candidates)
        allowed = candidates["logit"]
        if not np.isfinite(allowed.max()):
            ends = [token for token in self._vocabulary.end_tokens if grammar.allows(token)]
            if ends:  # the answer is complete, only the request does not want to hear of it
                return ends[0]
            raise NoTokenError("GRAMMAR_DEAD_END", "the grammar leaves no token with which the answer could go on")
        likeliest = int(allowed.argmax())
        if self._chain is None:
            return likeliest
        pointer = candidates.ctypes.data_as(ctypes.POINTER(native.llama_token_data))
        array = native.llama_token_data_array(pointer, len(candidates), -1, False)
        native.llama_sampler_apply(self._chain, ctypes.byref(array))  # from here on the candidates are in another order
        token = int(array.data[array.selected].id)
        return token if grammar.allows(token) else likeliest


class Penalties:
    """What is added to or taken from the logits of particular tokens before one is chosen."""

    def __init__(self, request: GenerateRequest, vocabulary: LlamaVocabulary, prompt: Sequence[int]) -> None:
        sampling = request.sampling
        self._repeat = sampling.repeat_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._recent = deque(prompt[-_REPEAT_WINDOW:] if self._repeat != 1 else (), maxlen=_REPEAT_WINDOW)
        self._generated: set[int] = set()
        self._counts = bool(self._presence or self._frequency)
        self._offsets: Row | None = None
        if self._counts or sampling.logit_bias or request.ignore_eos:
            self._offsets = np.zeros(vocabulary.size, dtype=np.float32)
            for token, bias in sampling.logit_bias:
                self._offsets[token] += bias
            if request.ignore_eos:
                self._offsets[list(vocabulary.end_tokens)] = -np.inf

    def apply(self, logits: Row) -> None:
        """Changes the logits in place."""
        if self._repeat != 1 and self._recent:
            tokens = np.fromiter(set(self._recent), dtype=np.int64)
            values = logits[tokens]
            logits[tokens] = np.where(values <= 0, values * self._repeat, values / self._repeat)
        if self._offsets is not None:
            logits += self._offsets

    def remember(self, token: int) -> None:
        """Takes note of a generated token."""
        if self._repeat != 1:
            self._recent.append(token)
        if self._counts and self._offsets is not None:
            self._offsets[token] -= self._frequency
            if token not in self._generated:
                self._generated.add(token)
                self._offsets[token] -= self._presence


def logprob(logits: Row, token: int, top: int, vocabulary: LlamaVocabulary) -> TokenLogprob:
    """The natural log-probability of a token and of the `top` likeliest ones, likeliest first."""
    peak = logits.max()
    norm = float(peak) + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
    count = min(top, len(logits))
    likeliest = np.argpartition(logits, len(logits) - count)[len(logits) - count :] if count else np.empty(0, np.int64)
    ranked = sorted(likeliest.tolist(), key=lambda candidate: (-logits[candidate], candidate))
    return TokenLogprob(
        token,
        float(logits[token]) - norm,
        vocabulary.piece(token, special=True),
        tuple(
            TokenAlternative(other, float(logits[other]) - norm, vocabulary.piece(other, special=True))
            for other in ranked
        ),
    )


def _chain(sampling: Sampling) -> Any:
    """llama.cpp's samplers for the settings, None where the likeliest token is taken anyway."""
    if sampling.temperature < _GREEDY_BELOW or sampling.top_k == 1:
        return None
    chain = native.llama_sampler_chain_init(native.llama_sampler_chain_params(no_perf=True))
    if sampling.top_k > 0:
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_min_p(sampling.min_p, 1))
    native.llama_sampler_chain_add(chain, native.llama_sampler_init_temp(sampling.temperature))
    native.llama_sampler_chain_add(chain, native.llama_sampler_init_dist(_seed(sampling.seed)))
    return chain


def _seed(seed: int | None) -> int:
    """32 bits; the highest number would ask llama.cpp for a seed of its own."""
    number = secrets.randbits(32) if seed is None else seed % 2**32
    return min(number, 2**32 - 2)
