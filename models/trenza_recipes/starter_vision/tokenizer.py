"""The tokenizer: every word of the questions and answers is one token, everything else is spelled out letter by letter."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from trenza_recipes.starter_chat.tokenizer import Tokenizer, pieces
from trenza_recipes.starter_chat.words import ORDINARY_WORDS
from trenza_recipes.starter_vision.language import Words
from trenza_recipes.starter_vision.questions import KINDS, LANGUAGES, ask
from trenza_recipes.starter_vision.surface import SYSTEM_MESSAGES, written_by_people
from trenza_recipes.starter_vision.world import random_scene

_SAMPLED_QUESTIONS = 40_000
_SAMPLE_SEED = 1
_LEAST_COUNT = 5


def _asked_words(words: Words) -> Iterator[str]:
    """The pieces of every wording and answer of a language."""
    for listed in (*words.questions.values(), tuple(words.answers.values())):
        for text in listed:
            yield from pieces(text)


def build() -> Tokenizer:
    """The tokenizer for a fixed sample of questions."""
    rng = random.Random(_SAMPLE_SEED)
    counted: Counter[str] = Counter()
    kinds, shares = list(KINDS), list(KINDS.values())
    languages = list(LANGUAGES)
    for words in LANGUAGES.values():
        for answer in words.answers.values():
            for piece in pieces(answer):
                counted[piece] += _LEAST_COUNT
    for message in SYSTEM_MESSAGES:
        for piece in pieces(message):
            counted[piece] += _LEAST_COUNT
    for _ in range(_SAMPLED_QUESTIONS):
        question = ask(random_scene(rng), rng.choice(languages), rng, rng.choices(kinds, shares)[0])
        if question is not None:
            counted.update(pieces(written_by_people(question.text, rng)))
            counted.update(pieces(question.said))
    asked = {p.strip(" ¿¡").casefold() for words in LANGUAGES.values() for p in _asked_words(words)}
    spelled = {word.casefold() for listed in ORDINARY_WORDS.values() for word in listed} - asked
    frequent = sorted(
        piece
        for piece, count in counted.items()
        if count >= _LEAST_COUNT and len(piece) > 1 and piece.strip(" ¿¡").casefold() not in spelled
    )
    roles = ("user", "assistant", "system")
    return Tokenizer((*roles, *(piece for piece in frequent if piece not in roles)))
