"""Held-out pictures and questions, and whether an answer is right."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from trenza_recipes.starter_vision.drawing import draw
from trenza_recipes.starter_vision.language import LanguageName
from trenza_recipes.starter_vision.questions import LANGUAGES, Question, ask
from trenza_recipes.starter_vision.world import Scene, random_scene, side_of

WITHOUT_PICTURE = "without picture"
_ANY_ORDER = ("shapes", "colours", "colour of", "shape of")
_OPPOSITES = (
    ("to the left of", "to the right of"),
    ("above", "below"),
    ("a la izquierda de", "a la derecha de"),
    ("encima de", "debajo de"),
)


@dataclass(frozen=True)
class Case:
    """A question that training never asks so, about a scene that it never shows so."""

    question: Question
    scene: Scene
    picture: Image.Image | None

    def accepts(self, reply: str) -> bool:
        """Whether a reply says what is true."""
        if self.picture is None:
            return reply.strip() == LANGUAGES[self.question.language].answers["no picture"]
        return is_right(self.question, self.scene, reply)

    @property
    def wanted(self) -> str:
        """A right answer."""
        return self.question.said if self.picture else LANGUAGES[self.question.language].answers["no picture"]


def held_out_case(kind: str, language: LanguageName, rng: random.Random, figures: Sequence[int] = ()) -> Case:
    """A case of a kind of question; `figures` are the numbers of figures that its scene may have, of none any."""
    asked = "describe" if kind == WITHOUT_PICTURE else kind
    while True:
        scene = random_scene(rng, rng.choice(figures) if figures else None, held_out=True)
        question = ask(scene, language, rng, asked, held_out=True)
        if question is not None:
            picture = None if kind == WITHOUT_PICTURE else draw(scene, rng, whole=True)
            return Case(question, scene, picture)


def held_out_cases(kind: str, language: LanguageName, count: int, seed: int, figures: Sequence[int] = ()) -> list[Case]:
    """The same cases for the same arguments. A relation needs two figures, and "where" is asked of no more than two."""
    rng = random.Random(f"{kind} {language} {seed}")
    return [held_out_case(kind, language, rng, figures) for _ in range(count)]


def is_right(question: Question, scene: Scene, reply: str) -> bool:
    """Whether a reply to a question about a scene says what is true: the answer itself, or its parts in another order."""
    said, wanted = _plain(reply), _plain(question.said)
    if said == wanted:
        return True
    if question.kind in _ANY_ORDER:
        return _parts(said) == _parts(wanted)
    if question.kind != "describe":
        return False
    if len(scene.figures) > 2:
        head, _, rest = wanted.partition(":")
        said_head, _, said_rest = said.partition(":")
        return head == said_head and _parts(rest) == _parts(said_rest)
    return len(scene.figures) == 2 and said in _descriptions(question, scene)


def _descriptions(question: Question, scene: Scene) -> set[str]:
    """All the ways to say how two figures are placed."""
    first, second = scene.figures
    words = LANGUAGES[question.language]
    a, b = words.a(first.colour, first.shape), words.a(second.colour, second.shape)
    start = words.answers["one"].lower()
    pairs = _OPPOSITES[:2] if question.language == "en" else _OPPOSITES[2:]
    beside, stacked = pairs
    plain = side_of(first, second)
    found: set[str] = set()
    for (one, other), along in ((beside, first.x - second.x), (stacked, first.y - second.y)):
        # Where the figures are askew, both ways to tell of them are true.
        if plain is None or (plain in ("left", "right")) == (one == beside[0]):
            near, far = (a, b) if along < 0 else (b, a)
            found |= {f"{start} {near} {one} {far}", f"{start} {far} {other} {near}"}
    return {_contracted(text) for text in found}


def _contracted(text: str) -> str:
    return text.replace(" de el ", " del ")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip().lower().rstrip("."))


def _parts(text: str) -> list[str]:
    return sorted(part.strip() for part in re.split(r",| and | y | is | are | es | son ", text) if part.strip())
