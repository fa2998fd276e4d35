"""Asking the finished model files held-out questions through llama.cpp and counting the right answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from trenza_recipes.starter_draw import scenes as drawn_scenes
from trenza_recipes.starter_draw.world import PLACES, Scene, render
from trenza_recipes.starter_vision.judging import WITHOUT_PICTURE, Case, held_out_cases
from trenza_recipes.starter_vision.looking import Looker, Message
from trenza_recipes.starter_vision.questions import KINDS, LANGUAGES

ALL_KINDS = (*KINDS, WITHOUT_PICTURE)
_ABOUT_TWO = ("relation", "is beside")
_SIZES = ((512, 512), (768, 512), (512, 768), (1024, 1024), (256, 256))


def messages(case: Case, picture_first: bool = True) -> Sequence[Message]:
    """A case as a conversation."""
    parts: list[str | Image.Image] = [case.question.text]
    if case.picture is not None:
        parts.insert(0 if picture_first else 1, case.picture)
    return [("user", parts)]


def groups_of(kind: str) -> dict[str, tuple[int, ...]]:
    """The numbers of figures for which a kind is judged apart."""
    few = (2,) if kind in _ABOUT_TWO else (1, 2)
    return {"one or two": few} if kind == "where" else {"one or two": few, "three": (3,), "four": (4,)}


def evaluate(folder: Path, count: int, seed: int, shown: int) -> None:
    """Print a table of shares per kind, number of figures and language, and some wrong answers of each."""
    looker = Looker(folder)
    columns = [f"{group}, {language}" for group in groups_of("describe") for language in LANGUAGES]
    print("| kind | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    wrong: list[tuple[Case, str]] = []
    for kind in ALL_KINDS:
        shares = []
        for figures in groups_of(kind).values():
            for language in LANGUAGES:
                cases = held_out_cases(kind, language, count, seed, figures)
                replies = [(case, looker.answer(messages(case, index % 2 == 0))) for index, case in enumerate(cases)]
                missed = [(case, reply) for case, reply in replies if not case.accepts(reply)]
                wrong += missed[:shown]
                shares.append(f"{100 - 100 * len(missed) / count:.0f}%")
        print(f"| {kind} | " + " | ".join(shares) + " |" * (1 + len(columns) - len(shares)), flush=True)
    for case, reply in wrong:
        asked = case.question
        shown_figures = ", ".join(f"{f.colour} {f.shape} ({f.x:.0f}, {f.y:.0f})" for f in case.scene.figures)
        size = f"{case.scene.width}x{case.scene.height} {case.scene.background}"
        print(
            f"{asked.kind} {asked.language}: {asked.text!r} -> {reply!r}, not {case.wanted!r}; {size}: {shown_figures}"
        )


def names_all(reply: str, scene: Scene) -> bool:
    """Whether a description names every figure of a scene of starter-draw, with its colour, in its order."""
    wanted = [f"{figure.colour_on(scene.background)} {figure.shape}" for figure in scene.figures]
    between = {"alone": "", "beside": " to the left of ", "stacked": " above "}[scene.arrangement]
    said = reply.lower().replace(" an ", " a ")
    return (" a ".join(["there is", wanted[0]]) + (f"{between}a {wanted[1]}" if len(wanted) > 1 else "") + ".") == said


def evaluate_drawings(folder: Path, count: int, seed: int) -> float:
    """The share of pictures of starter-draw's world, drawn by its renderer, that are described rightly."""
    looker, rng = Looker(folder), random.Random(seed)
    right = 0
    for _ in range(count):
        scene = drawn_scenes.random_scene(rng, held_out=True)
        picture = render(scene, *rng.choice(_SIZES), [rng.random() for _ in range(PLACES)])
        right += names_all(looker.answer([("user", [picture, "What is in this picture?"])]), scene)
    return right / count
