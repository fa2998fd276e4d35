"""starter-vision really sees: held-out pictures and questions, and what starter-draw draws, asked about through HTTP."""

from __future__ import annotations

import io
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from e2e.load import client_of
from mesh import Mesh
from PIL import Image, ImageDraw
from trenza_recipes.starter_draw.judging import judge
from trenza_recipes.starter_draw.prompts import held_out_prompts
from trenza_recipes.starter_vision.evaluate import ALL_KINDS, groups_of, names_all
from trenza_recipes.starter_vision.judging import held_out_cases

MODEL = "starter-vision"
REQUIRED = 0.95
REQUIRED_OF_A_KIND = 0.9  # of 80 questions
COUNT = 40  # of each kind and language
SEED = 30_000  # not the seed that the recipe's own evaluation uses
DRAWINGS = 60


@pytest.fixture(scope="module")
def client(full_mesh: Mesh) -> openai.OpenAI:
    return client_of(full_mesh)


def part(picture: Image.Image, kind: str = "PNG") -> dict[str, Any]:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode()}"},
    }


def message(text: str, picture: Image.Image | None, kind: str = "PNG", picture_first: bool = False) -> dict[str, Any]:
    """What a person says, with a picture or without."""
    if picture is None:
        return {"role": "user", "content": text}
    parts = [{"type": "text", "text": text}, part(picture, kind)]
    return {"role": "user", "content": parts[::-1] if picture_first else parts}


def answered(client: openai.OpenAI, messages: list[Any]) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    return answer.choices[0].message.content or ""


def wrongly_answered(client: openai.OpenAI, kind: str, count: int, figures: tuple[int, ...]) -> list[str]:
    """The wrong answers among `count` held-out questions of a kind in either language."""
    cases = held_out_cases(kind, "en", count, SEED, figures) + held_out_cases(kind, "es", count, SEED, figures)
    asked = [
        [message(case.question.text, case.picture, ("PNG", "WEBP")[index % 2], picture_first=index % 3 == 0)]
        for index, case in enumerate(cases)
    ]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda messages: answered(client, messages), asked))
    return [
        f"{case.question.text!r}: {reply!r}, not {case.wanted!r}"
        for case, reply in zip(cases, replies, strict=True)
        if not case.accepts(reply)
    ]


class Exam:
    """Held-out questions of each kind about pictures of one or two figures, asked once."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client
        self._wrong: dict[str, list[str]] = {}

    def wrong(self, kind: str) -> list[str]:
        """The wrong answers among twice COUNT questions."""
        if kind not in self._wrong:
            self._wrong[kind] = wrongly_answered(self._client, kind, COUNT, groups_of(kind)["one or two"])
        return self._wrong[kind]


@pytest.fixture(scope="module")
def exam(client: openai.OpenAI) -> Exam:
    return Exam(client)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_held_out_questions_of_a_kind(exam: Exam, kind: str) -> None:
    wrong = exam.wrong(kind)
    assert len(wrong) <= (1 - REQUIRED_OF_A_KIND) * 2 * COUNT, f"{len(wrong)} of {2 * COUNT}:\n" + "\n".join(wrong)


def test_held_out_questions(exam: Exam) -> None:
    wrong = {kind: len(exam.wrong(kind)) for kind in ALL_KINDS}
    assert sum(wrong.values()) <= (1 - REQUIRED) * 2 * COUNT * len(ALL_KINDS), wrong


@pytest.mark.parametrize("figures", [3, 4])
def test_held_out_questions_about_many_figures(client: openai.OpenAI, figures: int) -> None:
    count = COUNT // 4
    asked = [kind for kind in ALL_KINDS if "three" in groups_of(kind)]
    wrong = [text for kind in asked for text in wrongly_answered(client, kind, count, (figures,))]
    assert len(wrong) <= (1 - REQUIRED) * 2 * count * len(asked), "\n".join(wrong)


def test_what_starter_draw_draws_is_described(client: openai.OpenAI) -> None:
    def drawn(asked: tuple[int, tuple[str, Any]]) -> tuple[Image.Image, Any]:
        seed, (prompt, scene) = asked
        answer = client.images.generate(
            model="starter-draw", prompt=prompt, response_format="b64_json", extra_body={"seed": seed}
        )
        assert answer.data
        return Image.open(io.BytesIO(b64decode(answer.data[0].b64_json or ""))).convert("RGB"), scene

    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(drawn, enumerate(held_out_prompts(DRAWINGS, SEED))))
        shown = [(picture, scene) for picture, scene in pictures if judge(picture, scene).right]
        assert len(shown) >= 0.8 * DRAWINGS
        questions = [[message("What is in this picture?", picture)] for picture, _ in shown]
        replies = list(pool.map(lambda messages: answered(client, messages), questions))
    wrong = [
        f"{scene}: {reply!r}" for (_, scene), reply in zip(shown, replies, strict=True) if not names_all(reply, scene)
    ]
    assert len(wrong) <= (1 - REQUIRED) * len(shown), f"{len(wrong)} of {len(shown)}:\n" + "\n".join(wrong)


def circle_left_of_square() -> Image.Image:
    picture = Image.new("RGB", (600, 400), "white")
    brush = ImageDraw.Draw(picture)
    brush.ellipse((80, 120, 240, 280), fill="red")
    brush.rectangle((360, 130, 520, 290), fill="blue")
    return picture


def test_a_conversation_of_several_turns_about_one_picture(client: openai.OpenAI) -> None:
    messages: list[Any] = []
    for text, wanted in (
        ("What is in this picture?", "There is a red circle to the left of a blue square."),
        ("How many circles are there?", "There is one circle."),
        ("What color is the square?", "The square is blue."),
        ("Where is the square?", "The square is to the right of the circle."),
        ("¿De qué color es el fondo?", "El fondo es blanco."),
        ("¿Hay una estrella?", "No, no hay ninguna estrella."),
        ("What is the capital of France?", "I do not know that. I only know about the figures in the picture."),
        ("Is there a blue square?", "Yes, there is a blue square."),
    ):
        messages.append(message(text, None if messages else circle_left_of_square()))
        reply = answered(client, messages)
        assert reply == wanted, text
        messages.append({"role": "assistant", "content": reply})


def test_a_second_picture_is_what_later_questions_are_about(client: openai.OpenAI) -> None:
    star = Image.new("RGB", (300, 300), "yellow")
    ImageDraw.Draw(star).regular_polygon((150, 150, 100), 3, fill="green")
    messages = [
        message("What is in this picture?", circle_left_of_square()),
        {"role": "assistant", "content": "There is a red circle to the left of a blue square."},
        message("What is in this picture?", star),
    ]
    assert answered(client, messages) == "There is a green triangle."


def test_without_a_picture_it_says_that_it_needs_one(client: openai.OpenAI) -> None:
    assert answered(client, [message("What is in this picture?", None)]) == (
        "I need a picture for that. Please send me one."
    )
    assert "imagen" in answered(client, [message("¿Cuántos círculos hay?", None)])
