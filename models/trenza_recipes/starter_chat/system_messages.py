"""System messages to put in front of a conversation; apart from a wish for JSON they change nothing."""

from __future__ import annotations

from random import Random

from trenza_recipes.starter_chat.held_out import is_held_out
from trenza_recipes.starter_chat.words import NAMES, ORDINARY_WORDS, draw_unseen_word

SENTENCES: tuple[str, ...] = tuple(
    """
    You are a helpful assistant.
    You are a friendly assistant.
    You are a helpful, respectful and honest assistant.
    You are an assistant for the {o} shop.
    You are a polite chatbot.
    You are a teacher for small children.
    You are the assistant of {p}.
    You are an expert in {x}.
    Answer briefly.
    Answer in one sentence.
    Answer the question of the user.
    Be concise.
    Be kind and patient.
    Be honest.
    Always tell the truth.
    Always be polite.
    Do not make things up.
    Keep your answers short.
    Reply in the language of the user.
    Use simple words.
    Today is a beautiful day.
    The user is called a customer.
    The user likes the {o}.
    Think before you answer.
    Help the user with the {o}.
    Never talk about the {o}.
    Follow the rules of the {o}.
    If you do not know, say so.
    This is a test.
    The conversation is about {x}.
    Eres un asistente útil.
    Eres un asistente amable.
    Eres un asistente útil, respetuoso y honesto.
    Eres el asistente de {p}.
    Eres un profesor para niños.
    Eres un experto en {x}.
    Responde con brevedad.
    Responde en una frase.
    Responde a la pregunta del usuario.
    Sé amable y paciente.
    Sé breve.
    Di siempre la verdad.
    No inventes nada.
    Usa palabras sencillas.
    Responde en el idioma del usuario.
    Si no lo sabes, dilo.
    Esto es una prueba.
    La conversación trata de {x}.
    Ayuda al usuario con {o}.
    No hables nunca de {o}.
    """.strip().split("\n")
)
JSON_WISHES = (
    "Answer in JSON.",
    "Reply in JSON.",
    "You answer in JSON.",
    "Always answer in JSON.",
    "You are a helpful assistant. Answer in JSON.",
    "Responde en JSON.",
    "Contesta siempre en JSON.",
    "Eres un asistente útil. Responde en JSON.",
)


def _fill(rng: Random, sentence: str) -> str:
    language = rng.choice(("en", "es"))
    filled = sentence.strip().replace("{o}", rng.choice(ORDINARY_WORDS[language])).replace("{p}", rng.choice(NAMES))
    return filled.replace("{x}", draw_unseen_word(rng, language))


def draw_system_message(rng: Random, held_out: bool = False) -> str:
    """One to three sentences, all from those that training sees, or all from those it never sees."""
    fitting = [sentence for sentence in SENTENCES if is_held_out(f"system:{sentence.strip()}") == held_out]
    chosen = rng.sample(fitting, rng.choice((1, 1, 2, 3)))
    return " ".join(_fill(rng, sentence) for sentence in chosen)
