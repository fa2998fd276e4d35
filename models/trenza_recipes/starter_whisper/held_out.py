"""Which sentences are kept out of training, by a rule that never changes, and how to ask for some of them."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from trenza_recipes.starter_whisper.sentences import Sentence, any_sentence
from trenza_recipes.starter_whisper.world import Language

_ONE_IN = 25
_SHORTEST_WORDS = 3
_LARGEST_COUNT = 2000


@dataclass(frozen=True, slots=True)
class HeldOutSentence:
    """A sentence that was never heard in training: its words as spoken, and what they mean in English."""

    language: Language
    text: str
    english: str


def is_held_out(sentence: Sentence) -> bool:
    """Whether it is kept for tests, in both languages: one sentence of three or more words in 25, by its Spanish text."""
    return len(sentence.english) >= _SHORTEST_WORDS and zlib.crc32(sentence.text("es").encode()) % _ONE_IN == 0


def held_out_sentences(language: Language, count: int, seed: int = 1) -> list[HeldOutSentence]:
    """`count` different held-out sentences of one language; the same seed gives the same ones.

    Raises ValueError for more than 2,000.
    """
    if not 0 <= count <= _LARGEST_COUNT:
        raise ValueError(f"count must be between 0 and {_LARGEST_COUNT}, not {count}")
    dice = random.Random(seed)
    found: dict[str, HeldOutSentence] = {}
    while len(found) < count:
        sentence = any_sentence(dice)
        if is_held_out(sentence):
            text = sentence.text(language)
            english = text if language == "en" else " ".join(sentence.translation())
            found.setdefault(text, HeldOutSentence(language, text, english))
    return list(found.values())
