"""Kokoro's voices: the first letter of a name is its language, the second whether it sounds female or male."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trenza_audio.speaking.core.languages import code_of, normal_tag
from trenza_audio.speaking.core.voices import (
    OPENAI_VOICES,
    Role,
    UnknownLanguage,
    UnknownVoice,
    Voice,
    sorted_voices,
)

_TAGS: Mapping[str, str] = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "cmn",
}
"""What the phonemizer calls the language of a name's first letter."""
_NAMES: Mapping[str, str] = {
    "a": "American English",
    "b": "British English",
    "e": "Spanish",
    "f": "French",
    "h": "Hindi",
    "i": "Italian",
    "j": "Japanese",
    "p": "Brazilian Portuguese",
    "z": "Chinese",
}
_ENGLISH: Mapping[str, str] = {
    "alloy": "af_alloy",
    "ash": "am_michael",
    "ballad": "bm_george",
    "coral": "af_bella",
    "echo": "am_echo",
    "fable": "bm_fable",
    "onyx": "am_onyx",
    "nova": "af_nova",
    "sage": "af_sarah",
    "shimmer": "af_sky",
    "verse": "am_puck",
    "marin": "af_heart",
    "cedar": "am_fenrir",
}
"""OpenAI's voices in English; some are called alike on purpose."""


class KokoroCast:
    """The voices of one file of voices."""

    def __init__(self, names: Iterable[str]) -> None:
        """Raises ValueError when there is no voice whose name says its language."""
        self._names = {name.lower(): name for name in sorted(names) if name[:1] in _TAGS}
        if not self._names:
            raise ValueError("there is no voice whose name begins with the letter of a language")
        letters = sorted({name[0] for name in self._names}, key="aebfipzjh".index)
        self._tags = {normal_tag(_TAGS[letter]): letter for letter in letters}
        self._letters: dict[str, str] = {}
        for letter in letters:
            self._letters.setdefault(code_of(_TAGS[letter]), letter)

    def voices(self) -> Sequence[Voice]:
        """All of the file."""
        return sorted_voices([self._listed(name) for name in self._names.values()])

    def languages(self, voice: str) -> tuple[str, ...]:
        """Its own for a voice of the model, all for one of OpenAI's. Raises UnknownVoice."""
        own = self._names.get(_normal(voice))
        if own is None and _normal(voice) not in OPENAI_VOICES:
            raise UnknownVoice(voice)
        return (code_of(_TAGS[own[0]]),) if own else tuple(self._letters)

    def role(self, voice: str, language: str) -> Role:
        """Who speaks. A voice of the model speaks another language of the model's with an accent.

        Raises UnknownVoice or UnknownLanguage.
        """
        own = self._names.get(_normal(voice))
        letter = self._letter(language, own)
        if letter is None:
            raise UnknownLanguage(language)
        name = own or self._stand_in(_normal(voice), letter)
        return Role(name, code_of(_TAGS[letter]), _TAGS[letter])

    def _letter(self, language: str, own: str | None) -> str | None:
        """The letter of a language; the voice's own where only its region is open."""
        tag = normal_tag(language)
        if own and (not tag or tag == code_of(_TAGS[own[0]])):
            return own[0]
        return self._tags.get(tag) or self._letters.get(code_of(tag))

    def _stand_in(self, alias: str, letter: str) -> str:
        """The voice that stands for one of OpenAI's in a language: as female or male, and another for each while there are."""
        if alias not in OPENAI_VOICES:
            raise UnknownVoice(alias)
        english = _ENGLISH[alias]
        if english in self._names and (letter == english[0] or letter == self._letters.get("en")):
            return self._names[english]
        kind = OPENAI_VOICES[alias]
        same = [name for name in self._names.values() if name[0] == letter and name[1:2] == kind[0]]
        choices = same or [name for name in self._names.values() if name[0] == letter]
        return choices[[other for other in OPENAI_VOICES if OPENAI_VOICES[other] == kind].index(alias) % len(choices)]

    def _listed(self, name: str) -> Voice:
        code = code_of(_TAGS[name[0]])
        aliases = tuple(alias for alias in OPENAI_VOICES if self.role(alias, code).voice == name)
        kind = {"f": "female", "m": "male"}.get(name[1:2], "")
        return Voice(name, (code,), aliases, f"{_NAMES[name[0]]}, {kind}" if kind else _NAMES[name[0]])


def _normal(voice: str) -> str:
    """How names are compared."""
    return voice.strip().lower()
