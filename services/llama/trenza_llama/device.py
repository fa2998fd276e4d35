"""What the engine's loop needs of the thing that computes: slots of memory, batches, samplers."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from trenza_runtime.worker.engine import ModelFacts

from trenza_llama.engine import GenerateRequest, Picture, TokenLogprob


class GrammarError(ValueError):
    """The grammar or schema cannot be used; the message says why."""


class NoTokenError(Exception):
    """No token can be chosen: the grammar leaves none or takes too long, or the model's output is not a number."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecodeError(Exception):
    """The device could not compute the batch; what its slots hold is unknown now."""


class PictureError(ValueError):
    """The model cannot look at the picture; the message says why."""


@dataclass(frozen=True, slots=True)
class PicturePart:
    """A part of a picture that is encoded at a time: `count` tokens, which take `positions` positions.

    The tokens of a `whole` part look at one another and have to be computed in one batch.
    """

    count: int
    positions: int
    whole: bool


PictureLayout: TypeAlias = tuple[tuple[int, ...] | PicturePart, ...]
"""What a picture is in a prompt: its parts, and the tokens of text that the model wants around and between them."""


class EncodedPart(Protocol):
    """What the model takes for a part of a picture."""

    @property
    def size_bytes(self) -> int:
        """The memory it takes."""


class Projector(Protocol):
    """The part of a model that sees."""

    def layout(self, picture: Picture) -> PictureLayout:
        """What the picture will be in a prompt; cheap. Raises PictureError."""

    def encode(self, picture: Picture) -> Generator[EncodedPart, None, None]:
        """Encodes one part after the other, those of the layout in order; closing it early is fine.

        Raises PictureError, or DecodeError where the fault is not the picture's.
        """


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to append to a slot's memory from `position` on; the last `rows` of them want their logits.

    Where they stand for a picture, `part` is what the projector made of it, whose tokens from `offset` on they are, and
    `position` is that of the part's first token.
    """

    slot: int
    position: int
    tokens: Sequence[int]
    rows: int
    part: EncodedPart | None = None
    offset: int = 0


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
    def whole_tokens(self) -> int:
        """How many tokens a part of a picture may have that is computed in one batch, alone."""

    @property
    def can_copy(self) -> bool:
        """Whether a part of one slot can be copied to another."""

    @property
    def projector(self) -> Projector | None:
        """What sees, None for a model that reads text only."""

    def truncate(self, slot: int, length: int) -> int:
        """Forgets what a slot has from position `length` on; returns where it ends now, 0 if it cannot keep a part."""

    def copy(self, source: int, target: int, length: int) -> int:
        """Gives one slot what another has up to position `length`; returns where it ends now, 0 if it cannot."""

    def run(self, feeds: Sequence[Feed]) -> list[int]:
        """Computes a batch of tokens, or one of parts of pictures; returns each feed's first row (the others follow it).

        A part that is `whole` must be alone. Raises DecodeError.
        """

    def sampler(self, request: GenerateRequest, prompt: Sequence[int]) -> Sampler:
        """A sampler for a request. Raises GrammarError."""

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        """How likely a token was by a row of the last batch, and the `top` likeliest ones."""

    def close(self) -> None:
        """Frees the model."""
