"""Prompts for scenes: a request in English or Spanish, with or without the small talk that people put around it."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from trenza_recipes.starter_chat.held_out import is_held_out
from trenza_recipes.starter_draw import english, spanish
from trenza_recipes.starter_draw.scenes import random_scene
from trenza_recipes.starter_draw.world import Scene

Language = Literal["en", "es"]
LANGUAGES: tuple[Language, ...] = ("en", "es")
_SPEECH: dict[Language, ModuleType] = {"en": english, "es": spanish}

_UNSEEN: dict[Language, tuple[str, ...]] = {
    "en": (
        "I would like {}",
        "I would love {}",
        "could you make me a picture with {} in it, please",
        "would you be so kind as to paint {}",
        "is it possible to get an image of {}?",
        "show us what {} looks like",
        "we are after {}, nothing fancy",
        "for my blog I have to have {}",
        "Surprise my teacher with {}!",
        "it'd make me happy if you drew {}",
        "put {} in there",
        "I'm wondering whether you might sketch {} for me",
    ),
    "es": (
        "quiero {}",
        "quisiera {}",
        "me gustaría ver {}",
        "¿me podrías hacer un dibujo que tenga {}?",
        "¿sería posible obtener una imagen de {}?",
        "haría falta {}, nada complicado",
        "para mi blog debo tener {}",
        "Sorprende a mi profesora con {}!",
        "me haría feliz que dibujaras {}",
        "coloca ahí {}",
        "me pregunto si sabrías trazar {} para mí",
        "a ver cómo te queda {}",
    ),
}


def unseen_phrasings(language: Language) -> tuple[str, ...]:
    """Ways to ask, with {} for the scene, that training never uses, whatever the scene."""
    return _UNSEEN[language]


@cache
def _openers(language: Language, held_out: bool) -> tuple[str, ...]:
    """What can stand before a scene; for training, nothing that an unseen phrasing opens with."""
    spared = {_words(phrasing.partition("{}")[0]) for phrasing in _UNSEEN[language]}
    return tuple(
        opener
        for opener in _SPEECH[language].OPENERS
        if _words(opener) not in spared and is_held_out(f"{language} {opener}") == held_out
    )


@cache
def _closers(language: Language, held_out: bool) -> tuple[str, ...]:
    return tuple(closer for closer in _SPEECH[language].CLOSERS if is_held_out(f"{language} {closer}") == held_out)


@cache
def neutral_words(language: Language) -> tuple[str, ...]:
    """Ordinary words that say nothing about shapes, colours, numbers or places."""
    return tuple(Path(__file__).with_name("data").joinpath(f"neutral_words.{language}.txt").read_text("utf-8").split())


def _words(text: str) -> str:
    return " ".join(text.lower().replace(",", " ").replace("¿", " ").split())


def training_prompt(scene: Scene, rng: random.Random) -> str:
    """A prompt as training sees it: often bare, often in a request, sometimes amid words that mean nothing here."""
    language = rng.choice(LANGUAGES)
    around = [_maybe(0.6, _openers(language, False), rng), _maybe(0.25, _closers(language, False), rng)]
    if rng.random() < 0.25:
        around = [_thinned(text, rng) for text in around]
    if rng.random() < 0.4:
        before, after = rng.choice(((3, 0), (0, 3), (2, 2), (6, 0), (4, 4)))
        around[0] = f"{around[0]} {_chatter(language, before, rng)}".strip()
        around[1] = f"{_chatter(language, after, rng)} {around[1]}".strip()
        if rng.random() < 0.3:
            around[0] = f"{_chatter(language, 4, rng)} {around[0]}".strip()
    return _typed(_joined(around[0], _described(scene, language, rng), around[1], rng), language, rng)


def _maybe(share: float, choices: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice(choices) if rng.random() < share else ""


def _thinned(text: str, rng: random.Random) -> str:
    return " ".join(word for word in text.split() if rng.random() < 0.7)


def _chatter(language: Language, most: int, rng: random.Random) -> str:
    words = []
    for _ in range(rng.randint(0, most)):
        invented = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 8)))
        words.append(invented if rng.random() < 0.12 else rng.choice(neutral_words(language)))
    return " ".join(words)


def _described(scene: Scene, language: Language, rng: random.Random) -> str:
    return str(_SPEECH[language].describe(scene, rng))


def _joined(opener: str, description: str, closer: str, rng: random.Random) -> str:
    comma = "," if closer and rng.random() < 0.3 else ""
    return " ".join(part for part in (opener, description + comma, closer) if part)


def _typed(text: str, language: Language, rng: random.Random) -> str:
    """The prompt as somebody types it: with or without capitals, accents and a full stop."""
    if text.startswith("¿"):
        text += rng.choice(("?", "?", ""))
    elif rng.random() < 0.3:
        text += rng.choice((".", ".", "!", "?", "...", " :)"))
    if language == "es" and rng.random() < 0.3:
        text = spanish.without_accents(text)
    chance = rng.random()
    if chance < 0.06:
        return text.upper()
    return text[:1].upper() + text[1:] if chance < 0.4 else text


def unseen_prompt(scene: Scene, language: Language, rng: random.Random) -> str:
    """A prompt in a phrasing that training never uses: a held-out opener and closer, or an unseen phrasing."""
    described = _described(scene, language, rng)
    if rng.random() < 0.4:
        return _typed(rng.choice(_UNSEEN[language]).format(described), language, rng)
    opener, closer = rng.choice(_openers(language, True)), _maybe(0.3, _closers(language, True), rng)
    return _typed(_joined(opener, described, closer, rng), language, rng)


def held_out_prompts(count: int, seed: int) -> list[tuple[str, Scene]]:
    """`count` prompts and their scenes, both languages in turn; neither scene nor phrasing was ever trained on."""
    rng = random.Random(seed)
    found = []
    for k in range(count):
        scene = random_scene(rng, held_out=True)
        found.append((unseen_prompt(scene, LANGUAGES[k % 2], rng), scene))
    return found


def lexicon(count: int, seed: int) -> list[str]:
    """Texts from which the tokenizer learns its pieces: training prompts and every neutral word."""
    rng = random.Random(seed)
    prompts = [training_prompt(random_scene(rng), rng) for _ in range(count)]
    return prompts + [" ".join(neutral_words(language)) for language in LANGUAGES for _ in range(3)]
