from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trenza_recipes.starter_chat.model import Shape
from trenza_recipes.starter_chat.tokenizer import Tokenizer
from trenza_recipes.starter_vision.conversations import PATCH, Conversation, Writer, training_conversation
from trenza_recipes.starter_vision.drawing import draw, fitted, frame, normalised, owners
from trenza_recipes.starter_vision.export import export
from trenza_recipes.starter_vision.facts import QUESTIONS, WIDTH, facts_of
from trenza_recipes.starter_vision.judging import held_out_cases, is_right
from trenza_recipes.starter_vision.looking import Looker
from trenza_recipes.starter_vision.network import EyeShape, StarterVision
from trenza_recipes.starter_vision.questions import KINDS, LANGUAGES, Asker, Question, ask
from trenza_recipes.starter_vision.talking import embedded
from trenza_recipes.starter_vision.world import Figure, Scene, random_scene

SHIPPED = Path(__file__).parents[3] / "models/starter/starter-vision"
LARGEST_BYTES = 8_000_000

TWO = Scene(200, 100, "white", (Figure("circle", "red", 50, 50, 30), Figure("star", "blue", 150, 52, 30)))
FOUR = Scene(
    400,
    400,
    "black",
    (
        Figure("circle", "red", 60, 60, 40),
        Figure("circle", "green", 160, 330, 40),
        Figure("square", "red", 260, 60, 40),
        Figure("star", "white", 350, 330, 40),
    ),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def asked(scene: Scene, kind: str, language: str, count: int = 200) -> dict[str, str]:
    """What many questions of a kind ask, and their answers."""
    rng = random.Random(1)
    asker = Asker(scene, "en" if language == "en" else "es", rng)
    found = (asker.ask(kind) for _ in range(count))
    return {question.text: question.said for question in found if question is not None}


def test_training_never_shows_a_held_out_scene_nor_asks_a_held_out_question() -> None:
    rng = random.Random(1)
    for _ in range(300):
        scene = random_scene(rng)
        assert not scene.held_out
        question = ask(scene, "en", rng, rng.choice(list(KINDS)))
        assert question is None or not question.subject or not question.held_out


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_for_tests_is_held_out(kind: str) -> None:
    for case in held_out_cases(kind, "es", 10, seed=1):
        assert case.scene.held_out
        assert case.question.held_out or not case.question.subject
        assert case.accepts(case.question.said)


@pytest.mark.parametrize(
    ("scene", "kind", "question", "answer"),
    [
        (TWO, "describe", "What is in this picture?", "There is a red circle to the left of a blue star."),
        (TWO, "shapes", "Name the shapes.", "A circle and a star."),
        (TWO, "colours", "What colors are the shapes?", "Red and blue."),
        (TWO, "colour of", "What color is the star?", "The star is blue."),
        (TWO, "colour of", "What color is the square?", "There is no square."),
        (TWO, "where", "Where is the star?", "The star is to the right of the circle."),
        (TWO, "beside", "What is to the left of the star?", "A red circle."),
        (TWO, "beside", "What is above the star?", "There is nothing above the star."),
        (FOUR, "count", "How many circles are there?", "There are two circles."),
        (FOUR, "count", "How many figures are there?", "There are four figures."),
        (FOUR, "count", "How many triangles are there?", "There are no triangles."),
        (FOUR, "ground", "What is the background?", "The background is black."),
        (FOUR, "is there", "Is there a green circle?", "Yes, there is a green circle."),
        (FOUR, "is there", "Is there a green star?", "No, there is no green star."),
        (FOUR, "shape of", "What is red?", "A red circle and a red square."),
        (FOUR, "is it", "Is the star red?", "No, the star is white."),
    ],
)
def test_answers_in_english_are_true(scene: Scene, kind: str, question: str, answer: str) -> None:
    assert asked(scene, kind, "en", 4000)[question] == answer


@pytest.mark.parametrize(
    ("scene", "kind", "question", "answer"),
    [
        (TWO, "describe", "¿Qué hay en esta imagen?", "Hay un círculo rojo a la izquierda de una estrella azul."),
        (FOUR, "count", "¿Cuántas estrellas hay?", "Hay una estrella."),
        (FOUR, "count", "¿Cuántos triángulos hay?", "No hay ningún triángulo."),
        (TWO, "beside", "¿Qué hay a la derecha del círculo?", "Una estrella azul."),
        (FOUR, "is there", "¿Hay una estrella blanca?", "Sí, hay una estrella blanca."),
    ],
)
def test_answers_in_spanish_are_true(scene: Scene, kind: str, question: str, answer: str) -> None:
    assert asked(scene, kind, "es", 4000)[question] == answer


def described(scene: Scene) -> Question:
    question = Asker(scene, "en", random.Random(1)).ask("describe")
    assert question is not None
    return question


def test_a_description_may_say_the_same_in_another_way_and_nothing_false() -> None:
    question = described(TWO)
    assert is_right(question, TWO, "There is a blue star to the right of a red circle.")
    assert not is_right(question, TWO, "There is a red circle to the right of a blue star.")
    assert not is_right(question, TWO, "There is a red circle above a blue star.")
    assert not is_right(question, TWO, "There is a red star to the left of a blue circle.")
    several = described(FOUR)
    other_order = "There are four figures: a white star, a red square, a green circle and a red circle."
    assert is_right(several, FOUR, other_order)
    assert not is_right(several, FOUR, other_order.replace("white", "red"))


def test_every_patch_is_told_what_covers_it() -> None:
    answers, owner = facts_of(TWO, 16)
    names = list(QUESTIONS)
    left, right = 3 * 7 + 1, 3 * 7 + 5
    assert (owner[left], owner[right], owner[0]) == (1, 2, 0)
    assert answers[left, names.index("shape")] == 1
    assert answers[right, names.index("left colour")] == 1
    assert answers[right, names.index("right shape")] == 0
    assert set(answers[:, names.index("count")]) == {2}
    assert (owners(TWO, 16) == owner).all()


@pytest.mark.parametrize("size", [(64, 64), (112, 112), (300, 100), (77, 231), (1024, 683)])
def test_a_picture_is_fitted_without_distortion_and_padded(size: tuple[int, int]) -> None:
    square = fitted(Image.new("RGB", size, (10, 200, 30)))
    width, height, left, top = frame(*size)
    assert max(width, height) == 112
    assert abs(width / height - size[0] / size[1]) < 0.05 * size[0] / size[1]
    inside = square[top : top + height, left : left + width]
    assert (inside == (10, 200, 30)).all()
    assert (square == (10, 200, 30)).all(-1).sum() == width * height


def test_conversations_say_what_they_should_and_look_at_their_pictures() -> None:
    tokenizer = Tokenizer(("user", "assistant", "system"))
    writer, rng = Writer(tokenizer, 49), random.Random(3)
    for _ in range(30):
        talk = training_conversation(writer, rng)
        assert talk.tokens.count(PATCH) == 49 * len(talk.scenes)
        assert len(talk.tokens) == len(talk.spoken)
        assert not any(spoken and token == PATCH for spoken, token in zip(talk.spoken, talk.tokens, strict=True))
        for look in talk.looks:
            assert talk.spoken[look.position + 1]
            assert max(look.figures) < len(talk.scenes[look.scene].figures)
            assert look.against not in look.figures


def test_llama_cpp_computes_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(1)
    tokenizer = Tokenizer(("user", "assistant", "system"))
    eye, language = EyeShape(layers=2), Shape(vocabulary=len(tokenizer.tokens), layers=2, context_tokens=512)
    network = StarterVision(eye, language, WIDTH)
    export({name: weight.detach() for name, weight in network.state_dict().items()}, eye, language, tokenizer, tmp_path)
    looker, rng = Looker(tmp_path, 512), random.Random(2)
    for size, picture_first in (((112, 112), True), ((300, 200), False), ((64, 150), True)):
        scene = Scene(*size, "yellow", (Figure("star", "blue", size[0] / 2, size[1] / 2, 25),))
        picture = draw(scene, rng, whole=True)
        with torch.no_grad():
            read = network.read(torch.from_numpy(normalised(fitted(picture)[None])))[0]
        assert np.abs(looker.embeddings(picture) - read[0].numpy()).max() < 0.01
        looker.read([("user", [picture, "Is it?"] if picture_first else ["Is it?", picture])])
        assert np.abs(looker.scores() - expected_scores(network, tokenizer, scene, read, picture_first)).max() < 0.15


def expected_scores(
    network: StarterVision, tokenizer: Tokenizer, scene: Scene, read: torch.Tensor, picture_first: bool
) -> np.ndarray:
    """The scores of the first token of the answer."""
    talk = Conversation()
    writer = Writer(tokenizer, 49)
    writer.user(talk, "Is it?", scene, picture_first=picture_first)
    writer.open_answer(talk)
    with torch.no_grad():
        hidden, _ = network.hidden_states(embedded(network, torch.tensor([talk.tokens]), read))
        return (hidden[0, -1] @ network.language.token_embd.weight.T).numpy()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_question_can_be_asked(language: str) -> None:
    for kind in KINDS:
        scenes = (TWO, FOUR, random_scene(random.Random(1), 1))
        assert any(asked(scene, kind, language, 20) for scene in scenes), kind


def test_the_shipped_files_are_small_and_see() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < LARGEST_BYTES
    looker = Looker(SHIPPED)
    picture = draw(TWO, random.Random(1), spoiled=False, whole=True)
    assert looker.answer([("user", [picture, "What is in this picture?"])]) == (
        "There is a red circle to the left of a blue star."
    )
    assert looker.answer([("user", ["¿De qué color es la estrella?", picture])]) == "La estrella es azul."
    assert looker.answer([("user", ["What do you see?"])]) == "I need a picture for that. Please send me one."
