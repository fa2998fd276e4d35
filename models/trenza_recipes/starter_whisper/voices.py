"""The voices that training hears, and those that only tests hear."""

from __future__ import annotations

import random

from trenza_recipes.starter_whisper.speech import Manner
from trenza_recipes.starter_whisper.world import Language

OWN: dict[Language, tuple[str, ...]] = {"en": ("en-us", "en"), "es": ("es",)}
"""The plain voices, which starter-voice speaks with."""
_ACCENTS: dict[Language, tuple[str, ...]] = {
    "en": ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan"),
    "es": ("es", "es-419"),
}
_HEARD_VARIANTS = """
    f1 f2 f3 f4 m1 m2 m3 m4 m5 m6 m7 Alex Alicia Andrea Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Michael Mike
    Reed adam anika antonio aunty belinda benjamin boris caleb david ed edward grandma grandpa ian john klatt klatt2 klatt3
    linda marcelo max miguel norbert pablo paul rob sandro shelby steph travis victor
"""
_HEARD = tuple(_HEARD_VARIANTS.split())
HELD_OUT = ("f5", "m8", "Andy", "Mario", "steph2", "quincy", "robert", "zac", "pedro", "michel", "klatt4", "iven2")
"""Variants of a voice that training never hears."""


def own_manner(dice: random.Random, language: Language, spread: float = 1.0) -> Manner:
    """A plain voice, its speed and pitch varied: by 20% and 14 at a spread of 1, English mostly American."""
    voices = OWN[language]
    voice = voices[0] if dice.random() < 0.75 else voices[-1]
    speed = 175 * (1 + spread * dice.uniform(-0.2, 0.2))
    return Manner(voice, speed, 50 + spread * dice.uniform(-14, 14))


def other_manner(dice: random.Random, language: Language, held_out: bool = False) -> Manner:
    """Another voice: any accent, any variant of its part of the list, speed, pitch and liveliness varied widely."""
    voice = f"{dice.choice(_ACCENTS[language])}+{dice.choice(HELD_OUT if held_out else _HEARD)}"
    wide = (dice.uniform(125, 225), dice.uniform(20, 80), dice.uniform(20, 85))
    return Manner(voice, *wide, gap=dice.choice((0, 0, 0, 1, 3)))
