"""The surface of a question: polite fillers, capitals, missing accents and missing punctuation."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from trenza_recipes.starter_chat.judging import without_accents

ASKING_FILLERS: dict[str, tuple[str, ...]] = {
    "en": (
        "Please, {}",
        "{}, please?",
        "Hello! {}",
        "Can you tell me {}",
        "Could you tell me {}",
        "Tell me, {}",
        "Hey, {}",
        "Hello, {}",
        "Excuse me, {}",
        "OK, {}",
        "I would like to know, {}",
        "{}, do you know?",
        "Now, {}",
        "And {}",
        "So, {}",
    ),
    "es": (
        "Por favor, {}",
        "{}, por favor?",
        "¡Hola! {}",
        "Puedes decirme {}",
        "Podrías decirme {}",
        "Dime, {}",
        "Oye, {}",
        "Hola, {}",
        "Perdona, {}",
        "Vale, {}",
        "Me gustaría saber {}",
        "{}, lo sabes?",
        "Ahora, {}",
        "Y {}",
        "Entonces, {}",
    ),
}
COMMAND_FILLERS: dict[str, tuple[str, ...]] = {
    "en": (
        "Please {}",
        "Please, {}",
        "{}, please.",
        "Can you {}",
        "Could you {}",
        "Now {}",
        "Hey, {}",
        "OK, {}",
        "Hello, {}",
    ),
    "es": ("Por favor, {}", "{}, por favor.", "Ahora {}", "Oye, {}", "Vale, {}", "Hola, {}"),
}


@dataclass(frozen=True)
class Style:
    """How one message is written; the same style is applied to the words that fill its template."""

    lower: bool = False
    upper: bool = False
    bare: bool = False
    plain_accents: bool = False

    def apply(self, text: str, fixed: bool = False) -> str:
        """`text` in this style; `fixed` text keeps its punctuation and accents, because it will be repeated."""
        if self.upper:
            text = text.upper()
        elif self.lower:
            text = text.lower()
        if fixed:
            return text
        if self.bare:
            text = text.rstrip("?.!").replace("¿", "").replace("¡", "")
        return without_accents(text) if self.plain_accents else text


def draw_style(rng: Random, language: str) -> Style:
    """A style as people type: mostly neat, often hurried."""
    hurried = rng.random()
    return Style(
        lower=hurried < 0.25,
        upper=hurried > 0.965,
        bare=rng.random() < 0.25,
        plain_accents=language == "es" and rng.random() < 0.25,
    )


def _uncapitalised(text: str) -> str:
    first = 1 if text.startswith(("¿", "¡")) else 0
    return text[:first] + text[first : first + 1].lower() + text[first + 1 :]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def add_filler(template: str, filler: str, language: str) -> str:
    """`template` with a polite filler around it, its capitals and question marks put right.

    Numbered places in `template` ({0}, {1}) survive; `filler` has one unnumbered place.
    """
    closing = "?" if template.endswith("?") else "."
    inner = template.rstrip("?.!")
    if filler.startswith("{}"):
        return filler.replace("{}", inner)
    inner = _uncapitalised(inner)
    if inner.startswith("¿"):
        return _with_inverted_mark(filler, inner)
    return filler.replace("{}", inner) + ("?" if filler.startswith(("Can", "Could")) else closing)


def _with_inverted_mark(filler: str, inner: str) -> str:
    if filler.startswith(("Puedes", "Podrías")):
        return "¿" + _capitalised(filler.replace("{}", inner[1:])) + "?"
    return filler.replace("{}", inner) + "?"


def draw_filler(rng: Random, template: str, language: str) -> str:
    """`template`, in one case of three with a filler that suits a question or a command; two sentences get none."""
    if rng.random() > 0.33 or ". " in template:
        return template
    fillers = ASKING_FILLERS if template.endswith("?") else COMMAND_FILLERS
    return add_filler(template, rng.choice(fillers[language]), language)


def _contracted(text: str) -> str:
    return text.replace(" de el ", " del ").replace(" DE EL ", " DEL ")


def ask(
    rng: Random, template: str, language: str, *slots: str, fixed: bool = False, filled: bool = True
) -> tuple[str, tuple[str, ...]]:
    """The question as typed, and the slots as they stand in it.

    `fixed` slots keep accents and punctuation; `filled` says whether a polite filler may go around the template.
    """
    style = draw_style(rng, language)
    written = tuple(style.apply(slot, fixed) for slot in slots)
    marked = draw_filler(rng, template, language) if filled else template
    for index in range(len(slots)):
        marked = marked.replace(f"{{{index}}}", chr(0xE000 + index))
    text = style.apply(marked)
    for index, slot in enumerate(written):
        text = text.replace(chr(0xE000 + index), slot)
    return _contracted(text) if language == "es" and not fixed else text, written
