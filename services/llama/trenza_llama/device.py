"""What the engine's loop needs of the thing that computes: slots of memory, batches, samplers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trenza_runtime.worker.engine import ModelFacts

from trenza_llama.engine import GenerateRequest, TokenLogprob


class GrammarError(ValueError):
    """The grammar or schema cannot be used; the message says why."""


class NoTokenError(Exception):
    """No token can be chosen: the grammar leaves none or takes too long, or the model's output is not a number."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecodeError(Exception):
    """The device could not compute the batch; what its slots hold is unknown now."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to append to a slot's memory from `position` on; the last `rows` of them want their logits."""

    slot: int
    position: int
    tokens: Sequence[int]
    rows: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """A chosen token; `logprob` if it was asked for."""

    token: int
    logprob: TokenLogprob | None


class Sampler(Protocol):
    """Chooses the tokens of one request."""

    def sample(self, row: int) -> Sampled:
        """Chooses a token by a row of the last batch and remembers it. Raises NoTokenError."""

    def close(self) -> None:
        """Frees what it holds outside of Python; may be called twice."""


class Vocabulary(Protocol):
    """The tokens of a model."""

    @property
    def size(self) -> int:
        """How many tokens there are."""

    @property
    def bos(self) -> int | None:
        """The token that every prompt begins with, None if this model wants none."""

    @property
    def control_texts(self) -> Iterable[str]:
        """The written form of every control token."""

    @property
    def longest_token_bytes(self) -> int:
        """The length of the longest token's text."""

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        """The tokens of a text, control tokens written out in it included if `parse_special`; nothing is added."""

    def piece(self, token: int, special: bool) -> bytes:
        """The bytes a token stands for; control tokens stand for nothing unless `special`."""

    def ends_text(self, token: int) -> bool:
        """Whether the model says with this token that it is done."""


class Device(Protocol):
    """A loaded model with its slots. A row is the number of a token in the last batch whose logits were asked for."""

    @property
    def facts(self) -> ModelFacts:
        """What the loaded model is."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its tokens."""

    @property
    def context_length(self) -> int:
        """How many tokens one slot has room for."""

    @property
    def batch_tokens(self) -> int:
        """How many tokens one batch may have."""

    @property
    def max_rows(self) -> int:
        """How many rows one batch may ask for."""

    @property
    def can_copy(self) -> bool:
        """Whether a part of one slot can be copied to another."""

    def truncate(self, slot: int, length: int) -> int:
        """Forgets a slot's tokens from position `length` on; returns how many are kept, 0 if it cannot keep a part."""

    def copy(self, source: int, target: int, length: int) -> int:
        """Gives one slot the first `length` tokens of another; returns how many it has now, 0 if it cannot."""

    def run(self, feeds: Sequence[Feed]) -> list[int]:
        """Computes a batch; returns each feed's first row (the others follow it). Raises DecodeError."""

    def sampler(self, request: GenerateRequest, prompt: Sequence[int]) -> Sampler:
        """A sampler for a request. Raises GrammarError."""

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        """How likely a token was by a row of the last batch, and the `top` likeliest ones."""

    def close(self) -> None:
        """Frees the model."""
