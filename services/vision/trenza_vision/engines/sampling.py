"""Chooses the next token from a model's logits as a request wants it, in the manner of the llama engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from trenza_llama.engine import GenerateRequest, Sampling

from trenza_vision.core.grammar import TooSlow
from trenza_vision.engines.ruling import Ruling

_TRIES = 64
"""How many tokens are drawn and found not allowed before allowed ones are looked for in order."""
_SEARCHED = 64
_PENALISED = 64
"""How many of the latest tokens, prompt included, the repeat penalty looks at."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token, its natural log-probability before sampling settings, and the likeliest ones (token, log-probability)."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class NoToken(Exception):
    """No token can be chosen; `reason` is machine-readable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Chooser:
    """Chooses the tokens of one answer; `ends` are the tokens that end one, `ruling` says which are allowed."""

    def __init__(self, request: GenerateRequest, ends: frozenset[int], ruling: Ruling | None = None) -> None:
        self._sampling = request.sampling
        self._top_logprobs = request.top_logprobs
        self._ruling, self._ends = ruling, ends
        self._forbidden = torch.tensor(sorted(ends)) if request.ignore_eos and ends else None
        self._counts: Counter[int] = Counter()
        self._dice = torch.Generator()
        if request.sampling.seed is not None:
            self._dice.manual_seed(request.sampling.seed)
        else:
            self._dice.seed()

    def choose(self, tokens: Any, logits: Any) -> Chosen:
        """The next token after `tokens` (a row of ids) by their `logits` (a row over the vocabulary). Raises NoToken."""
        logits = logits.float().cpu()
        if bool(torch.isnan(logits).any()):
            raise NoToken("MODEL_OUTPUT_INVALID", "the model's output is not a number")
        scores = self._penalised(tokens, logits.clone())
        token = self._picked(scores) if self._ruling is None else self._ruled(scores, self._ruling)
        self._counts[token] += 1
        if self._top_logprobs is None:
            return Chosen(token)
        natural = torch.log_softmax(logits, dim=-1)
        best = torch.topk(natural, min(self._top_logprobs, natural.numel()))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return Chosen(token, float(natural[token]), top)

    def _penalised(self, tokens: Any, scores: Any) -> Any:
        sampling = self._sampling
        if sampling.repeat_penalty != 1:
            recent = torch.unique(tokens[-_PENALISED:].cpu())
            recent = recent[recent < scores.numel()]
            found = scores[recent]
            scores[recent] = torch.where(found > 0, found / sampling.repeat_penalty, found * sampling.repeat_penalty)
        if self._counts and (sampling.presence_penalty or sampling.frequency_penalty):
            made = torch.tensor(list(self._counts))
            counts = torch.tensor(list(self._counts.values()), dtype=scores.dtype)
            scores[made] -= sampling.presence_penalty + counts * sampling.frequency_penalty
        for token, bias in sampling.logit_bias:
            scores[token] += bias
        if self._forbidden is not None:
            scores[self._forbidden] = -torch.inf
        return scores

    def _ruled(self, scores: Any, ruling: Ruling) -> int:
        """A token that the ruling allows, as likely as it is among all those."""
        if ruling.over and self._ends:
            return min(self._ends)
        try:
            for _ in range(_TRIES):
                token = self._picked(scores)
                if scores[token] == -torch.inf:
                    break
                if ruling.allows(token):
                    ruling.accept(token)
                    return token
                scores[token] = -torch.inf
            return self._searched(scores, ruling)
        except TooSlow:
            raise NoToken("GRAMMAR_TOO_SLOW", "the grammar takes too long to follow") from None

    def _searched(self, scores: Any, ruling: Ruling) -> int:
        """The same where allowed tokens are rare: among the likeliest of them."""
        allowed: list[int] = []
        for token in torch.argsort(scores, descending=True).tolist():
            if scores[token] == -torch.inf or len(allowed) == _SEARCHED:
                break
            if ruling.allows(token):
                allowed.append(token)
        if not allowed:
            raise NoToken("GRAMMAR_DEAD_END", "the grammar leaves no token with which the answer could go on")
        only = torch.full_like(scores, -torch.inf)
        only[allowed] = scores[allowed]
        token = self._picked(only)
        ruling.accept(token)
        return token

    def _picked(self, scores: Any) -> int:
        return int(scores.argmax()) if self._sampling.temperature == 0 else self._drawn(scores)

    def _drawn(self, scores: Any) -> int:
        """A token drawn by its probability among those that the settings leave."""
        values, order = _likeliest(scores, self._sampling)
        weights = torch.softmax(values / self._sampling.temperature, dim=-1)
        return int(order[torch.multinomial(weights, 1, generator=self._dice)])


def _likeliest(scores: Any, sampling: Sampling) -> tuple[Any, Any]:
    """Scores and ids of the tokens that top-k, top-p and min-p leave, likeliest first; always at least one."""
    count = min(sampling.top_k or scores.numel(), scores.numel())
    values, order = torch.topk(scores, count)
    probabilities = torch.softmax(values, dim=-1)
    before = torch.cumsum(probabilities, dim=-1) - probabilities
    kept = (before < sampling.top_p) & (probabilities >= sampling.min_p * probabilities[0])
    kept[0] = True
    return values[kept], order[kept]
