"""Facts to know by heart: colours of common things, capitals, shapes, and yes-or-no questions about them."""

from __future__ import annotations

from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Concludes, Mentions
from trenza_recipes.starter_chat.kinds.arithmetic import concludes_number
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.world import COLOURS, COUNTRIES, NUMBER_WORDS, SHAPES, THINGS, Thing

ASKED_COLOUR = {
    "en": (
        "What colour is {0}?",
        "What color is {0}?",
        "Which colour is {0}?",
        "What is the colour of {0}?",
        "What's the colour of {0}?",
        "Which colour does {0} have?",
        "Tell me the colour of {0}.",
        "Of what colour is {0}?",
    ),
    "es": (
        "¿De qué color es {0}?",
        "¿Qué color tiene {0}?",
        "¿Cuál es el color de {0}?",
        "¿Qué color es {0}?",
        "Dime el color de {0}.",
        "Dime de qué color es {0}.",
        "¿De qué color suele ser {0}?",
        "¿{0} de qué color es?",
    ),
}
ASKED_CAPITAL = {
    "en": (
        "What is the capital of {0}?",
        "What's the capital of {0}?",
        "Which city is the capital of {0}?",
        "Name the capital of {0}.",
        "Tell me the capital of {0}.",
        "What city is the capital of {0}?",
        "Do you know the capital of {0}?",
        "Which is the capital of {0}?",
    ),
    "es": (
        "¿Cuál es la capital de {0}?",
        "¿Qué ciudad es la capital de {0}?",
        "Dime la capital de {0}.",
        "¿Qué capital tiene {0}?",
        "¿Sabes la capital de {0}?",
        "¿Cómo se llama la capital de {0}?",
        "¿Conoces la capital de {0}?",
        "Di la capital de {0}.",
    ),
}
ASKED_SIDES = {
    "en": (
        "How many {1} does {0} have?",
        "How many {1} are there in {0}?",
        "What number of {1} does {0} have?",
        "Tell me how many {1} {0} has.",
        "How many {1} has {0}?",
        "How many {1} can you count on {0}?",
        "Do you know how many {1} {0} has?",
        "If I draw {0}, how many {1} does it have?",
    ),
    "es": (
        "¿Cuántos {1} tiene {0}?",
        "¿Cuántos {1} hay en {0}?",
        "¿Qué número de {1} tiene {0}?",
        "Dime cuántos {1} tiene {0}.",
        "¿{0} cuántos {1} tiene?",
        "¿Sabes cuántos {1} tiene {0}?",
        "¿Cuántos {1} se cuentan en {0}?",
        "Si dibujo {0}, ¿cuántos {1} tiene?",
    ),
}
ASKED_YES_NO = {
    "en": ("Is {0} {1}?", "Is it true that {0} is {1}?", "Is the colour of {0} {1}?", "Would you say that {0} is {1}?"),
    "es": ("¿Es {1} {0}?", "¿{0} es {1}?", "¿Es verdad que {0} es {1}?", "¿Es cierto que {0} es {1}?"),
}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _colour_names(language: str) -> tuple[str, ...]:
    if language == "en":
        return tuple(COLOURS)
    return tuple(form for colour in COLOURS.values() for form in (colour.masculine, colour.feminine))


def _colour_statement(thing: Thing, language: str) -> str:
    return f"{thing.name(language)} {'is' if language == 'en' else 'es'} {thing.described(language)}."


def concludes_colour(thing: Thing, language: str) -> Concludes:
    """A judge that wants the colour of `thing` as the last colour of the answer."""
    right = (thing.colour.name(language), thing.described(language))
    return Concludes.of(right, _colour_names(language))


def draw_colour(rng: Random, language: str) -> Episode:
    """The colour of a common thing."""
    thing, template = rng.choice(THINGS), rng.choice(ASKED_COLOUR[language])
    question, _ = ask(rng, template, language, thing.name(language))
    answer = _sentence(_colour_statement(thing, language))
    key = f"colour:{template}:{thing.english}"
    value = thing.colour.name(language)
    return (
        Exchange("colour", language, (key,), _sentence(question), answer, concludes_colour(thing, language), value),
    )


def draw_capital(rng: Random, language: str) -> Episode:
    """The capital of a country."""
    country, template = rng.choice(COUNTRIES), rng.choice(ASKED_CAPITAL[language])
    question, _ = ask(rng, template, language, country.name(language))
    capital = country.capital(language)
    opening = "The capital of {0} is {1}." if language == "en" else "La capital de {0} es {1}."
    others = {other.capital(language) for other in COUNTRIES if other is not country}
    judge = Mentions((capital,), tuple(sorted(others - {capital, country.name(language)})))
    key = f"capital:{template}:{country.english}"
    answer = opening.format(country.name(language), capital)
    return (Exchange("capital", language, (key,), question, answer, judge, capital),)


def draw_shape(rng: Random, language: str) -> Episode:
    """How many sides or points a shape has."""
    shape, template = rng.choice(SHAPES), rng.choice(ASKED_SIDES[language])
    in_english = language == "en"
    article = "a" if in_english else "una" if shape.feminine else "un"
    name = f"{article} {shape.english if in_english else shape.spanish}"
    counted = shape.counted_english if in_english else shape.counted_spanish
    if shape.feminine:
        template = template.replace("uántos", "uántas")
    question, _ = ask(rng, template, language, name, counted)
    amount = NUMBER_WORDS[language][shape.count]
    answer = _sentence(f"{name} {'has' if in_english else 'tiene'} {amount} {counted}.")
    key = f"shape:{template}:{shape.english}"
    return (
        Exchange(
            "shape", language, (key,), _sentence(question), answer, concludes_number(shape.count, language), shape.count
        ),
    )


def draw_yes_no(rng: Random, language: str) -> Episode:
    """Whether a thing has a colour."""
    thing, template = rng.choice(THINGS), rng.choice(ASKED_YES_NO[language])
    asked = thing.colour if rng.random() < 0.5 else rng.choice(tuple(COLOURS.values()))
    feminine = thing.spanish.split()[0] in ("una", "la")
    named = asked.english if language == "en" else asked.spanish(feminine)
    question, _ = ask(rng, template, language, thing.name(language), named)
    words = ("Yes", "No") if language == "en" else ("Sí", "No")
    said, rival = words if asked is thing.colour else words[::-1]
    answer = f"{said}, {_colour_statement(thing, language)}"
    key = f"yes-no:{template}:{thing.english}:{asked.english}"
    return (
        Exchange(
            "yes-no",
            language,
            (key,),
            _sentence(question),
            answer,
            Mentions((said, thing.described(language)), (rival,)),
        ),
    )
