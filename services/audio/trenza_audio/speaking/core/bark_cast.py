"""Bark's voices: its presets, ten for each of its languages, and chance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from trenza_audio.speaking.core.languages import code_of
from trenza_audio.speaking.core.voices import (
    OPENAI_VOICES,
    Role,
    UnknownLanguage,
    UnknownVoice,
    Voice,
    sorted_voices,
)

LANGUAGES = ("en", "es", "de", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "tr", "zh")
"""What Bark speaks, the usual one first."""
PRESETS = tuple(f"v2/{language}_speaker_{number}" for language in LANGUAGES for number in range(10))
"""Every preset that the published models have."""
CHANCE = "random"
"""No preset: Bark makes up somebody, and in every sentence somebody else."""

_PRESET = re.compile(r"(?:.*/)?(?P<language>[a-z]{2})_speaker_(?P<number>\d+)")
_NUMBERS: Mapping[str, int] = {
    "alloy": 0,
    "ash": 1,
    "ballad": 2,
    "coral": 4,
    "echo": 3,
    "fable": 5,
    "onyx": 6,
    "nova": 9,
    "sage": 7,
    "shimmer": 8,
    "verse": 1,
    "marin": 9,
    "cedar": 6,
}
"""OpenAI's voices as numbers of presets: there are ten, so the youngest three share one with an older one."""


class BarkCast:
    """The presets of one model."""

    def __init__(self, presets: Iterable[str] = PRESETS) -> None:
        """Presets whose names say no language of Bark's are left out."""
        found = {preset.lower(): preset for preset in presets if _language_of(preset) in LANGUAGES}
        self._presets = dict(sorted(found.items()))

    def voices(self) -> Sequence[Voice]:
        """Every preset, and chance."""
        chance = Voice(CHANCE, tuple(sorted(LANGUAGES)), description="Somebody else in every sentence")
        return sorted_voices([chance, *(self._listed(preset) for preset in self._presets.values())])

    def languages(self, voice: str) -> tuple[str, ...]:
        """Its own for a preset, all for chance and OpenAI's voices. Raises UnknownVoice."""
        preset = self._find(voice)
        if preset is None and _normal(voice) not in (CHANCE, *OPENAI_VOICES):
            raise UnknownVoice(voice)
        return (_language_of(preset),) if preset else LANGUAGES

    def role(self, voice: str, language: str) -> Role:
        """Who speaks. A preset speaks Bark's other languages, too, with an accent. Raises UnknownVoice or UnknownLanguage."""
        preset, code = self._find(voice), code_of(language)
        if preset and not code:
            code = _language_of(preset)
        if code not in LANGUAGES:
            raise UnknownLanguage(language)
        if preset is None and _normal(voice) != CHANCE:
            preset = self._stand_in(_normal(voice), code)
        return Role(preset or CHANCE, code, code)

    def _find(self, voice: str) -> str | None:
        name = _normal(voice)
        return self._presets.get(name) or self._presets.get(f"v2/{name}")

    def _stand_in(self, alias: str, code: str) -> str | None:
        """A preset of the language for one of OpenAI's voices; None where the model has no presets of that language."""
        if alias not in _NUMBERS:
            raise UnknownVoice(alias)
        same = [preset for preset in self._presets.values() if _language_of(preset) == code]
        newest = [preset for preset in same if preset.startswith("v2/")] or same
        return newest[_NUMBERS[alias] % len(newest)] if newest else None

    def _listed(self, preset: str) -> Voice:
        code = _language_of(preset)
        aliases = tuple(alias for alias in OPENAI_VOICES if self._stand_in(alias, code) == preset)
        return Voice(preset, (code,), aliases, "A preset of Bark")


def _language_of(preset: str) -> str:
    found = _PRESET.fullmatch(preset)
    return found["language"] if found else ""


def _normal(voice: str) -> str:
    return voice.strip().lower()
