"""espeak-ng's voices: one for each language and region, and variants that make each of them sound like somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trenza_audio.speaking.core.languages import code_of, normal_tag
from trenza_audio.speaking.core.voices import Role, UnknownLanguage, UnknownVoice, Voice, sorted_voices

PLAIN = "plain"
"""The voice without a variant, in whatever language."""

_ALIASES: Mapping[str, str] = {
    "alloy": PLAIN,
    "ash": "m3",
    "ballad": "m8",
    "coral": "f2",
    "echo": "m1",
    "fable": "m6",
    "onyx": "m7",
    "nova": "f3",
    "sage": "f4",
    "shimmer": "f5",
    "verse": "m4",
    "marin": "f1",
    "cedar": "m2",
}
"""OpenAI's voices as variants."""
_LISTED = (PLAIN, "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
"""Variants that are listed as voices of every language; the others are taken as well, behind a language or alone."""
_USUAL_TAGS = {"en": "en-us", "es": "es", "fr": "fr-fr", "pt": "pt", "zh": "cmn", "vi": "vi"}
"""Which of its regions speaks where only the language is known."""


@dataclass(frozen=True, slots=True)
class EspeakLanguage:
    """One of espeak-ng's languages.

    `name` is what its voice is called ("es-419"), `path` is its file ("roa/es-419"), `tags` are all that it answers to.
    """

    name: str
    path: str
    tags: tuple[str, ...]
    description: str

    @property
    def code(self) -> str:
        """The language's code, whatever its region."""
        return code_of(self.tags[0])


def read_language(path: str, text: str) -> EspeakLanguage | None:
    """Reads a file of the data's folder `lang`, by its path there; None for what names no language."""
    lines = [line.split() for line in text.splitlines()]
    tags = tuple(normal_tag(line[1]) for line in lines if len(line) > 1 and line[0] == "language")
    names = [" ".join(line[1:]) for line in lines if len(line) > 1 and line[0] == "name"]
    return EspeakLanguage(tags[0], path, tags, names[0] if names else tags[0]) if tags else None


class EspeakCast:
    """The voices of espeak-ng's data."""

    def __init__(self, languages: Iterable[EspeakLanguage], variants: Iterable[str]) -> None:
        """Raises ValueError when there is no language."""
        self._by_name = _by_name(languages)
        if not self._by_name:
            raise ValueError("there is no language")
        self._variants = {variant.lower(): variant for variant in variants}
        self._usual = self._usual_by_code()
        self._codes = tuple(sorted(self._usual, key=lambda code: (code != "en", code != "es", code)))

    def voices(self) -> Sequence[Voice]:
        """Every language's own voice, and the usual variants, which speak them all."""
        own = [
            Voice(name, (language.code,), description=f"{language.description}; variants as in {name}+f3")
            for name, language in self._by_name.items()
        ]
        return sorted_voices([*own, *(self._variant_voice(name) for name in _LISTED if self._has_variant(name))])

    def languages(self, voice: str) -> tuple[str, ...]:
        """One for a language's own voice, all for a variant, the usual one first. Raises UnknownVoice."""
        language, _ = self._parse(voice)
        return (language.code,) if language else self._codes

    def role(self, voice: str, language: str) -> Role:
        """Who speaks; a language may name its region (`es-419`). Raises UnknownVoice or UnknownLanguage."""
        own, variant = self._parse(voice)
        chosen = own or self._find(language)
        if chosen is None or (own and language and code_of(language) != own.code):
            raise UnknownLanguage(language)
        suffix = f"+{variant}" if variant else ""
        return Role(chosen.name + suffix, chosen.code, chosen.path + suffix)

    def _parse(self, voice: str) -> tuple[EspeakLanguage | None, str]:
        """The language and the variant that a name stands for; either may be missing, not both unless it is the plain voice."""
        name, plus, variant = normal_tag(voice).partition("+")
        if not plus and name not in self._by_name:
            name, variant = "", _ALIASES.get(name, name)
        variant = "" if variant == PLAIN else variant
        if (
            (name and name not in self._by_name)
            or (plus and not variant)
            or (variant and not self._has_variant(variant))
        ):
            raise UnknownVoice(voice)
        return self._by_name.get(name), self._variants.get(variant, "")

    def _find(self, language: str) -> EspeakLanguage | None:
        tag = normal_tag(language)
        exact = [found for found in self._by_name.values() if tag in found.tags]
        return self._usual.get(tag) or (exact[0] if exact else None) or self._usual.get(code_of(tag))

    def _usual_by_code(self) -> dict[str, EspeakLanguage]:
        usual: dict[str, EspeakLanguage] = {}
        for name, language in sorted(self._by_name.items(), key=lambda item: (len(item[0]), item[0])):
            usual.setdefault(language.code, language)
            if name in (language.code, _USUAL_TAGS.get(language.code)):
                usual[language.code] = language
        for code, tag in _USUAL_TAGS.items():
            if tag in self._by_name:
                usual[code] = self._by_name[tag]
        return usual

    def _variant_voice(self, name: str) -> Voice:
        aliases = tuple(alias for alias, variant in _ALIASES.items() if variant == name)
        kind = {"f": "A female", "m": "A male"}.get(name[0], "The plain")
        return Voice(name, tuple(sorted(self._codes)), aliases, f"{kind} voice, in the language of the text")

    def _has_variant(self, name: str) -> bool:
        return name == PLAIN or name in self._variants


def _by_name(languages: Iterable[EspeakLanguage]) -> dict[str, EspeakLanguage]:
    """By name; where two have the same, the one whose file is called so keeps it, and the other is called as its file is."""
    found: dict[str, EspeakLanguage] = {}
    for language in sorted(languages, key=lambda language: (len(language.path), language.path)):
        name = language.name if language.name not in found else language.path.rpartition("/")[2].lower()
        found[name] = EspeakLanguage(name, language.path, language.tags, language.description)
    return found
