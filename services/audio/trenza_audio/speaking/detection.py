"""Which language a text is in: a small statistical model, and our own knowledge of short texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from trenza_audio.speaking.core.languages import choose

_READ_CHARS = 2000
"""As much of a text as decides."""


class LanguageDetector:
    """Loads its model (5 MB, about a second) when it is first asked. May be asked from several threads."""

    def __init__(self) -> None:
        self._identifier: LanguageIdentifier | None = None
        self._lock = Lock()

    def detect(self, text: str, candidates: Sequence[str]) -> str:
        """The language of a text among `candidates` (codes; not empty, the usual one first)."""
        if len(candidates) == 1:
            return candidates[0]
        return choose(text[:_READ_CHARS], self._probabilities(text[:_READ_CHARS], candidates), candidates)

    def _probabilities(self, text: str, candidates: Sequence[str]) -> Mapping[str, float]:
        with self._lock:
            if self._identifier is None:
                self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
            known = set(self._identifier.labels)
            identifier = self._identifier
            found = dict(identifier.rank(text))
        return {language: found[language] for language in candidates if language in known and language in found}
