"""Judges of answers: what a right answer must say, independent of how it is phrased."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class Judge(Protocol):
    """Says whether an answer is right."""

    def accepts(self, answer: str) -> bool: ...


def without_accents(text: str) -> str:
    """`text` with á, ü … made plain; ñ stays a letter of its own."""
    kept = text.replace("ñ", "\0").replace("Ñ", "\1")
    plain = "".join(sign for sign in unicodedata.normalize("NFD", kept) if not unicodedata.combining(sign))
    return plain.replace("\0", "ñ").replace("\1", "Ñ")


def plain_words(text: str) -> list[str]:
    """The words and numbers of `text`, lower case and without accents; hyphenated words stay whole."""
    return re.findall(r"\w+(?:-\w+)*", without_accents(text).casefold())


def wording(text: str) -> str:
    """`text` reduced to its words: what stays the same whatever its capitals, accents and punctuation."""
    return " ".join(plain_words(text))


def _holds(words: list[str], phrase: str) -> bool:
    wanted = plain_words(phrase)
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words)))


@dataclass(frozen=True)
class Exactly:
    """The answer is this text; case, surrounding quotes and a closing full stop do not matter."""

    text: str

    def accepts(self, answer: str) -> bool:
        return self._bare(answer) == self._bare(self.text)

    @staticmethod
    def _bare(text: str) -> str:
        return text.strip().strip("\"'«»“”.!?¡¿ ").casefold()


@dataclass(frozen=True)
class Mentions:
    """The answer holds every phrase of `required` and none of `rivals`."""

    required: tuple[str, ...]
    rivals: tuple[str, ...] = ()

    def accepts(self, answer: str) -> bool:
        words = plain_words(answer)
        return all(_holds(words, phrase) for phrase in self.required) and not any(
            _holds(words, phrase) for phrase in self.rivals
        )


@dataclass(frozen=True)
class Concludes:
    """Of all the words in `among` that the answer uses, the last is one of `right`."""

    right: frozenset[str]
    among: frozenset[str]

    @classmethod
    def of(cls, right: Iterable[str], among: Iterable[str]) -> Concludes:
        """A judge for single words, given in any case and with their accents."""

        def plain(words: Iterable[str]) -> frozenset[str]:
            return frozenset(word for text in words for word in plain_words(text))

        return cls(plain(right), plain(among))

    def accepts(self, answer: str) -> bool:
        named = [word for word in plain_words(answer) if word in self.among]
        return bool(named) and named[-1] in self.right


@dataclass(frozen=True)
class Answers:
    """The answer is the JSON object `{"answer": value}`, with `"steps"` before it or without, and nothing else.

    The case of a string does not matter.
    """

    value: int | str | None

    def accepts(self, answer: str) -> bool:
        try:
            given = json.loads(answer)
        except ValueError:
            return False
        if not isinstance(given, dict) or list(given) not in (["answer"], ["steps", "answer"]):
            return False
        said = given["answer"]
        if isinstance(said, str) and isinstance(self.value, str):
            return said.casefold() == self.value.casefold()
        return type(said) is type(self.value) and said == self.value
