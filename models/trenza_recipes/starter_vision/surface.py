"""How people write: with and without capitals, marks and pleases, behind a system message or none."""

from __future__ import annotations

import random
import unicodedata

SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You answer questions about pictures.",
    "Answer shortly.",
    "You are a helpful assistant that describes images.",
    "Eres un asistente útil.",
    "Respondes preguntas sobre imágenes.",
    "Responde brevemente.",
)
_BEFORE = ("Please, ", "Hello, ", "Hi! ", "Look at the picture. ", "Now tell me: ", "OK. ", "And ")
_BEFORE_SPANISH = ("Por favor, ", "Hola, ", "¡Hola! ", "Mira la imagen. ", "Ahora dime: ", "Vale. ", "Y ")
_AFTER = (" Please.", " Thanks.", " Answer in one sentence.", " Answer shortly.")
_AFTER_SPANISH = (" Por favor.", " Gracias.", " Responde en una frase.", " Responde brevemente.")


def written_by_people(text: str, rng: random.Random, language: str = "en") -> str:
    """A question as people may write it."""
    spanish = language == "es"
    if rng.random() < 0.12:
        before = rng.choice(_BEFORE_SPANISH if spanish else _BEFORE)
        text = before + (text if before[-2] in ".!" else _lowered(text))
    if rng.random() < 0.06:
        text += rng.choice(_AFTER_SPANISH if spanish else _AFTER)
    chance = rng.random()
    if chance < 0.1:
        text = text.lower()
    elif chance < 0.13:
        text = _lowered(text)
    if rng.random() < 0.1:
        text = text.rstrip("?.!")
    if "¿" in text and rng.random() < 0.15:
        text = text.replace("¿", "")
    if spanish and rng.random() < 0.05:
        text = _without_accents(text)
    return text


def _lowered(text: str) -> str:
    """With the first letter small."""
    start = 1 if text[:1] in "¿¡" else 0
    return text[:start] + text[start : start + 1].lower() + text[start + 1 :]


def _without_accents(text: str) -> str:
    plain = unicodedata.normalize("NFD", text.replace("ñ", "\0"))
    return "".join(c for c in plain if not unicodedata.combining(c)).replace("\0", "ñ")
