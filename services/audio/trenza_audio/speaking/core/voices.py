"""What voices there are, by a model's own names and by OpenAI's, and which of them speaks a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

OPENAI_VOICES: Mapping[str, str] = MappingProxyType(
    {
        "alloy": "female",
        "ash": "male",
        "ballad": "male",
        "coral": "female",
        "echo": "male",
        "fable": "male",
        "onyx": "male",
        "nova": "female",
        "sage": "female",
        "shimmer": "female",
        "verse": "male",
        "marin": "female",
        "cedar": "male",
    }
)
"""OpenAI's voices, and how they sound; every model has one for each."""

DEFAULT_VOICE = "alloy"
"""What speaks where neither the request nor the model's manifest names a voice."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice as it is listed; `languages` are ISO 639-1 codes (639-3 where there is none), sorted."""

    name: str
    languages: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """Who speaks: the model's own name of the voice, the language's code, and how the engine is told the language."""

    voice: str
    language: str
    tag: str


class UnknownVoice(ValueError):
    """The model has no voice of that name."""


class UnknownLanguage(ValueError):
    """The voice does not speak that language."""


class Cast(Protocol):
    """The voices of one model. Names are compared without regard to case."""

    def voices(self) -> Sequence[Voice]:
        """All of them that are listed, sorted by name."""

    def languages(self, voice: str) -> tuple[str, ...]:
        """The languages that a voice speaks, the usual one first. Raises UnknownVoice."""

    def role(self, voice: str, language: str) -> Role:
        """Who speaks when this voice is asked for in this language. Raises UnknownVoice or UnknownLanguage."""


def sorted_voices(voices: Sequence[Voice]) -> tuple[Voice, ...]:
    """In the order in which they are listed."""
    return tuple(sorted(voices, key=lambda voice: voice.name))
