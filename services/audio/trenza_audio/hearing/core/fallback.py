"""Judges what the model made of a window: good enough, silence, or to be tried again with more randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried one after the other where the request leaves the temperature to the model."""
MAX_COMPRESSION_RATIO = 2.4
"""A text that can be compressed better repeats itself."""
MIN_MEAN_LOGPROB = -1.0
"""A text of which the model is less sure is taken for a mistake."""
MAX_NO_SPEECH_PROBABILITY = 0.6
"""A window in which nobody speaks more probably than this is silence, unless the model is sure of its text."""
MAX_CONDITIONING_TEMPERATURE = 0.5
"""A text that took more randomness is not told to the next window: it might mislead it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the model made of a window at one temperature."""

    temperature: float
    tokens: tuple[int, ...]
    mean_logprob: float
    compression_ratio: float
    no_speech_probability: float

    @property
    def repetitive(self) -> bool:
        """Whether the text repeats itself."""
        return self.compression_ratio > MAX_COMPRESSION_RATIO

    @property
    def unsure(self) -> bool:
        """Whether the model is not sure of its text."""
        return self.mean_logprob < MIN_MEAN_LOGPROB

    @property
    def silent(self) -> bool:
        """Whether nobody speaks: such a window has no text."""
        return self.no_speech_probability > MAX_NO_SPEECH_PROBABILITY and not self.mean_logprob > MIN_MEAN_LOGPROB


def temperatures(asked: float | None) -> tuple[float, ...]:
    """The temperatures to try for a request."""
    return FALLBACK_TEMPERATURES if asked is None else (asked,)


def settle(attempts: Sequence[Attempt], planned: Sequence[float]) -> Attempt | None:
    """The attempt that counts, or None where the next temperature of `planned` is to be tried.

    When all have failed it is the surest of those that do not repeat themselves, under the last temperature, which
    tells how far the model had to go.
    """
    last = attempts[-1]
    nobody_speaks = last.unsure and last.no_speech_probability > MAX_NO_SPEECH_PROBABILITY
    if nobody_speaks or not (last.repetitive or last.unsure):
        return last
    if len(attempts) < len(planned):
        return None
    best = max([a for a in attempts if not a.repetitive] or attempts, key=lambda attempt: attempt.mean_logprob)
    return Attempt(last.temperature, best.tokens, best.mean_logprob, best.compression_ratio, best.no_speech_probability)


def mean_logprob(score: float, tokens: int) -> float:
    """The mean over `tokens` tokens and the end of the text, of a score that is the mean over the tokens."""
    return score * tokens / (tokens + 1)
