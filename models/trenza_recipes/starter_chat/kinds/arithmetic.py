"""Addition and subtraction up to twenty, and counting, in digits and in words."""

from __future__ import annotations

from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Concludes, Exactly
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.world import LARGEST_NUMBER, NUMBER_WORDS

ASKED_SUMS: dict[str, tuple[str, ...]] = {
    "en": (
        "What is {0}?",
        "How much is {0}?",
        "What's {0}?",
        "{0}?",
        "{0} = ?",
        "{0}=",
        "What does {0} make?",
        "Calculate {0}.",
    ),
    "es": (
        "¿Cuánto es {0}?",
        "¿Cuánto son {0}?",
        "¿Cuánto da {0}?",
        "¿{0}?",
        "{0} = ?",
        "{0}=",
        "¿Qué es {0}?",
        "Calcula {0}.",
    ),
}
TEN = 10
SIGNS = {"addition": "+", "subtraction": "-"}
SPOKEN_SIGNS = {
    ("addition", "en"): "plus",
    ("subtraction", "en"): "minus",
    ("addition", "es"): "más",
    ("subtraction", "es"): "menos",
}


def number(value: int, language: str, in_words: bool) -> str:
    """`value` as digits or as the word of `language`."""
    return NUMBER_WORDS[language][value] if in_words else str(value)


def all_numbers(language: str) -> tuple[str, ...]:
    """Every way of writing the numbers of the small world in `language`."""
    return NUMBER_WORDS[language] + tuple(str(value) for value in range(LARGEST_NUMBER + 1))


def concludes_number(value: int, language: str) -> Concludes:
    """A judge that wants `value` as the last number of the answer, in digits or words."""
    return Concludes.of((str(value), NUMBER_WORDS[language][value]), all_numbers(language))


def sum_key(kind: str, left: int, right: int) -> str:
    """The held-out key of a sum; both orders of an addition share it."""
    if kind == "addition":
        left, right = sorted((left, right))
    return f"{kind}:{left},{right}"


def draw_operands(rng: Random, kind: str) -> tuple[int, int, int]:
    """Two operands and their result, all between zero and twenty."""
    total = rng.randint(0, LARGEST_NUMBER)
    part = rng.randint(0, total)
    return (part, total - part, total) if kind == "addition" else (total, part, total - part)


def steps_of(kind: str, left: int, right: int) -> str:
    """A sum worked out in steps that each need no more than a neighbour of a number: "7 + 5 = 8 + 4 = 9 + 3 = … = 12".

    The larger number of an addition comes first; both numbers of a subtraction lose ten while they can.
    """
    sign, so_far = SIGNS[kind], [(left, right)]
    if kind == "addition" and left < right:
        so_far.append((right, left))
    while kind == "subtraction" and so_far[-1][1] >= TEN:
        so_far.append((so_far[-1][0] - TEN, so_far[-1][1] - TEN))
    while so_far[-1][1] > 1:
        first, second = so_far[-1]
        so_far.append((first + 1, second - 1) if kind == "addition" else (first - 1, second - 1))
    result = left + right if kind == "addition" else left - right
    return " = ".join([*(f"{first} {sign} {second}" for first, second in so_far), str(result)])


def _draw_sum(rng: Random, language: str, kind: str, in_steps: bool = True) -> Episode:
    left, right, result = draw_operands(rng, kind)
    in_words = rng.random() < 0.45
    spoken = SPOKEN_SIGNS[kind, language]
    written = spoken if in_words or rng.random() < 0.4 else SIGNS[kind]
    operands = number(left, language, in_words), number(right, language, in_words)
    tight = written in SIGNS.values() and rng.random() < 0.2
    asked = (written if tight else f" {written} ").join(operands)
    question, _ = ask(rng, rng.choice(ASKED_SUMS[language]), language, asked)
    equals = "is" if language == "en" else "es" if result == 1 else "son"
    said = f"{operands[0]} {spoken} {operands[1]} {equals} {number(result, language, in_words)}."
    said = said[0].upper() + said[1:]
    steps = steps_of(kind, left, right) if in_steps else ""
    answer = (f"{steps}. {said}" if in_words else f"{steps}.") if in_steps else said
    key = sum_key(kind, left, right)
    judge = concludes_number(result, language)
    return (Exchange(kind, language, (key,), question, answer, judge, result, steps),)


def draw_addition(rng: Random, language: str) -> Episode:
    """A sum such as "What is 7 + 5?", worked out in steps."""
    return _draw_sum(rng, language, "addition")


def draw_subtraction(rng: Random, language: str) -> Episode:
    """A difference such as "¿Cuánto es doce menos cuatro?", worked out in steps."""
    return _draw_sum(rng, language, "subtraction")


def draw_addition_by_heart(rng: Random, language: str) -> Episode:
    """A sum answered at once."""
    return _draw_sum(rng, language, "addition", in_steps=False)


def draw_subtraction_by_heart(rng: Random, language: str) -> Episode:
    """A difference answered at once."""
    return _draw_sum(rng, language, "subtraction", in_steps=False)


COUNT_RANGES = {
    "en": ("Count from {0} to {1}.", "Count from {0} up to {1}."),
    "es": ("Cuenta de {0} a {1}.", "Cuenta desde {0} hasta {1}."),
}
COUNT_TO = {"en": ("Count to {1}.", "Count up to {1}."), "es": ("Cuenta hasta {1}.", "Cuenta hasta el {1}.")}
COUNT_BACK = {
    "en": ("Count back from {0} to {1}.", "Count down from {0} to {1}."),
    "es": ("Cuenta hacia atrás de {0} a {1}.",),
}
NEXT_NUMBER = {
    "en": ("What number comes after {0}?", "Which number is after {0}?", "What comes after {0}?"),
    "es": ("¿Qué número viene después del {0}?", "¿Qué número va después del {0}?", "¿Qué viene después del {0}?"),
}
NUMBER_BEFORE = {
    "en": ("What number comes before {0}?", "Which number is before {0}?", "What comes before {0}?"),
    "es": ("¿Qué número viene antes del {0}?", "¿Qué número va antes del {0}?", "¿Qué viene antes del {0}?"),
}
BIGGER = {
    "en": ("Which is bigger, {0} or {1}?", "Which number is bigger, {0} or {1}?", "What is more, {0} or {1}?"),
    "es": ("¿Qué es mayor, {0} o {1}?", "¿Qué número es mayor, {0} o {1}?", "¿Qué es más, {0} o {1}?"),
}


def _draw_range(rng: Random, language: str, in_words: bool) -> Episode:
    first = rng.randint(0, LARGEST_NUMBER - 1)
    last = rng.randint(first + 1, LARGEST_NUMBER if rng.random() < 0.25 else min(LARGEST_NUMBER, first + 8))
    templates = rng.choice((COUNT_RANGES, COUNT_RANGES, COUNT_BACK, COUNT_TO))
    if templates is COUNT_TO:
        first, last = 1, rng.randint(2, LARGEST_NUMBER)
    steps = range(last, first - 1, -1) if templates is COUNT_BACK else range(first, last + 1)
    said = [number(value, language, in_words) for value in steps]
    question, _ = ask(rng, rng.choice(templates[language]), language, said[0], said[-1])
    answer = ", ".join(said) + "."
    key = f"count:{steps[0]},{steps[-1]}"
    return (Exchange("count", language, (key,), question, answer[0].upper() + answer[1:], Exactly(answer)),)


def _draw_neighbour(rng: Random, language: str, in_words: bool) -> Episode:
    value = rng.randint(1, LARGEST_NUMBER - 1)
    later = rng.random() < 0.5
    template = rng.choice((NEXT_NUMBER if later else NUMBER_BEFORE)[language])
    result = value + 1 if later else value - 1
    said = number(value, language, in_words), number(result, language, in_words)
    question, _ = ask(rng, template, language, said[0])
    linked = {
        ("en", True): "After {0} comes {1}.",
        ("en", False): "Before {0} comes {1}.",
        ("es", True): "Después del {0} viene el {1}.",
        ("es", False): "Antes del {0} viene el {1}.",
    }[language, later]
    key = f"count:{template}:{value}:{in_words}"
    judge = concludes_number(result, language)
    return (Exchange("count", language, (key,), question, linked.format(*said), judge, result),)


def _draw_comparison(rng: Random, language: str, in_words: bool) -> Episode:
    left, right = rng.sample(range(LARGEST_NUMBER + 1), 2)
    said = number(left, language, in_words), number(right, language, in_words)
    bigger = max(left, right)
    question, _ = ask(rng, rng.choice(BIGGER[language]), language, *said)
    opening = {"en": "The bigger number is", "es": "El número mayor es el"}[language]
    key = f"count:bigger:{left},{right}"
    judge = concludes_number(bigger, language)
    answer = f"{opening} {number(bigger, language, in_words)}."
    return (Exchange("count", language, (key,), question, answer, judge, bigger),)


def draw_count(rng: Random, language: str) -> Episode:
    """Counting up or down, the neighbour of a number, or the bigger of two."""
    draw = rng.choice((_draw_range, _draw_neighbour, _draw_comparison))
    return draw(rng, language, rng.random() < 0.5)
