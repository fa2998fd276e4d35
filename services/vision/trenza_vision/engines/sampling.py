"""Chooses the next token from a model's logits as a request wants it, in the manner of the llama engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from trenza_llama.engine import GenerateRequest, Sampling

_PENALISED = 64
"""How many of the latest tokens, prompt included, the repeat penalty looks at."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token, its natural log-probability before sampling settings, and the likeliest ones (token, log-probability)."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Chooser:
    """Chooses the tokens of one answer; `ends` are the tokens that end one."""

    def __init__(self, request: GenerateRequest, ends: frozenset[int]) -> None:
        self._sampling = request.sampling
        self._top_logprobs = request.top_logprobs
        self._forbidden = torch.tensor(sorted(ends)) if request.ignore_eos and ends else None
        self._counts: Counter[int] = Counter()
        self._dice = torch.Generator()
        if request.sampling.seed is not None:
            self._dice.manual_seed(request.sampling.seed)
        else:
            self._dice.seed()

    def choose(self, tokens: Any, logits: Any) -> Chosen:
        """The next token after `tokens` (a row of ids) by their `logits` (a row over the vocabulary)."""
        logits = logits.float().cpu()
        scores = self._penalised(tokens, logits.clone())
        token = int(scores.argmax()) if self._sampling.temperature == 0 else self._drawn(scores)
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
