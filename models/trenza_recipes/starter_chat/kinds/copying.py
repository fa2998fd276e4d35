"""Repeating and spelling, of ordinary words, of words of the small world and of words that nobody ever saw."""

from __future__ import annotations

from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Exactly, wording
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.words import ORDINARY_WORDS, WORLD_WORDS, draw_sentence, draw_unseen_word

# The text to copy never ends in a full stop of its own: one that stands there belongs to the question.
ASKED_REPEAT = {
    "en": (
        "Repeat: {0}",
        "Repeat after me: {0}",
        "Say: {0}",
        "Say {0}",
        "Say {0}.",
        "Repeat {0}",
        "Repeat: {0}.",
        'Repeat "{0}"',
        'Say "{0}"',
        "Repeat this: {0}",
        "Echo: {0}",
    ),
    "es": (
        "Repite: {0}",
        "Repite conmigo: {0}",
        "Di: {0}",
        "Di {0}",
        "Di {0}.",
        "Repite {0}",
        "Repite: {0}.",
        'Repite "{0}"',
        'Di "{0}"',
        "Repite esto: {0}",
    ),
}
ASKED_SPELL = {
    "en": (
        "Spell {0}",
        "Spell {0}.",
        "Spell the word {0}.",
        'Spell "{0}".',
        "How do you spell {0}?",
        "Spell: {0}",
        'How do you spell "{0}"?',
        "How is {0} spelled?",
    ),
    "es": (
        "Deletrea {0}",
        "Deletrea {0}.",
        "Deletrea la palabra {0}.",
        'Deletrea "{0}".',
        "¿Cómo se deletrea {0}?",
        "Deletrea: {0}",
        '¿Cómo se deletrea "{0}"?',
    ),
}


def draw_word(rng: Random, language: str) -> str:
    """A word to copy: made up, ordinary, or of the small world."""
    lot = rng.random()
    if lot < 0.45:
        return draw_unseen_word(rng, language)
    return rng.choice((ORDINARY_WORDS if lot < 0.75 else WORLD_WORDS)[language])


def draw_repeat(rng: Random, language: str) -> Episode:
    """A word or a short sentence to say again."""
    if rng.random() < 0.4:
        text = draw_word(rng, language)
        key = f"word:{wording(text)}" if text not in WORLD_WORDS[language] else ""
    else:
        text = draw_sentence(rng, language)
        key = f"sentence:{wording(text)}"
    question, written = ask(rng, rng.choice(ASKED_REPEAT[language]), language, text, fixed=True)
    keys = (key,) if key else ()
    return (Exchange("repeat", language, keys, question, written[0], Exactly(written[0])),)


def spelled(word: str) -> str:
    """The letters of `word` with hyphens between them."""
    return "-".join(word)


def draw_spell(rng: Random, language: str) -> Episode:
    """A word to spell; words of the small world are single tokens and therefore never held out."""
    word = draw_word(rng, language)
    keys = () if word in WORLD_WORDS[language] else (f"word:{wording(word)}",)
    question, written = ask(rng, rng.choice(ASKED_SPELL[language]), language, word, fixed=True)
    answer = spelled(written[0])
    return (Exchange("spell", language, keys, question, answer, Exactly(answer)),)
