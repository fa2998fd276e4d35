from __future__ import annotations

import random

import pytest
from trenza_recipes.starter_draw import english, spanish
from trenza_recipes.starter_draw.prompts import (
    LANGUAGES,
    Language,
    held_out_prompts,
    neutral_words,
    training_prompt,
    unseen_phrasings,
)
from trenza_recipes.starter_draw.scenes import random_scene
from trenza_recipes.starter_draw.world import Figure, Scene

RED_CIRCLE, BLUE_STAR = Figure("circle", "red"), Figure("star", "blue")
MEANINGFUL = {
    "en": "circle square triangle star red green blue yellow orange purple black white one two left right above below "
    "over under on top bottom and beside next background beneath",
    "es": "círculo cuadrado triángulo estrella rojo roja verde azul amarillo amarilla naranja morado negro blanco uno dos "
    "izquierda derecha encima debajo sobre bajo arriba abajo y junto fondo",
}


def training_prompts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [training_prompt(random_scene(rng), rng) for _ in range(count)]


def words(text: str) -> str:
    return " " + " ".join(spanish.without_accents(text.lower()).replace(",", " ").replace("¿", " ").split()) + " "


def descriptions(scene: Scene, language: Language) -> set[str]:
    rng = random.Random(1)
    module = {"en": english, "es": spanish}[language]
    return {module.describe(scene, rng) for _ in range(4_000)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_training_never_uses_an_unseen_phrasing(language: Language) -> None:
    openings = [words(phrasing.partition("{}")[0]) for phrasing in unseen_phrasings(language)]
    prompts = [words(prompt) for prompt in training_prompts(1, 6_000)]
    telling = [opening for opening in openings if len(opening.split()) >= 2]
    assert len(telling) >= 7
    for opening in telling:
        assert not any(prompt.startswith(opening) for prompt in prompts), opening


def test_held_out_prompts_are_the_same_for_the_same_seed_and_in_both_languages_in_turn() -> None:
    assert held_out_prompts(40, 3) == held_out_prompts(40, 3)
    assert held_out_prompts(40, 3) != held_out_prompts(40, 4)
    shapes = ("circle", "square", "triangle", "star")
    assert all(any(shape in prompt.lower() for shape in shapes) for prompt, _ in held_out_prompts(40, 3)[::2])


def test_training_never_shows_a_held_out_prompt() -> None:
    trained = {words(prompt) for prompt in training_prompts(2, 5_000)}
    assert not trained & {words(prompt) for prompt, _ in held_out_prompts(300, 5)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_neutral_words_say_nothing_about_a_scene(language: Language) -> None:
    assert len(neutral_words(language)) > 200
    assert not set(neutral_words(language)) & set(MEANINGFUL[language].split())


def test_english_says_plainly_what_a_scene_holds() -> None:
    assert {"a red circle", "one red circle", "the red circle", "a red circle on a white background"} <= descriptions(
        Scene((RED_CIRCLE,)), "en"
    )
    beside = descriptions(Scene((RED_CIRCLE, BLUE_STAR), "beside"), "en")
    assert {"a red circle and a blue star", "a blue star to the right of a red circle"} <= beside
    assert "a red circle to the right of a blue star" not in beside
    stacked = descriptions(Scene((RED_CIRCLE, BLUE_STAR), "stacked"), "en")
    assert "a red circle above a blue star" in stacked
    assert "a red circle below a blue star" not in stacked
    assert "two red circles" in descriptions(Scene((RED_CIRCLE, RED_CIRCLE), "beside"), "en")


def test_spanish_agrees_in_gender_and_number() -> None:
    assert {"una estrella azul", "la estrella azul"} <= descriptions(Scene((BLUE_STAR,)), "es")
    assert "una estrella roja sobre un fondo negro" in descriptions(
        Scene((Figure("star", "red"),), background="black"), "es"
    )
    assert "dos círculos rojos" in descriptions(Scene((RED_CIRCLE, RED_CIRCLE), "beside"), "es")
    assert "dos estrellas azules" in descriptions(Scene((BLUE_STAR, BLUE_STAR), "beside"), "es")
    left = descriptions(Scene((BLUE_STAR, RED_CIRCLE), "beside"), "es")
    assert "una estrella azul a la izquierda del círculo rojo" in left
    assert not any(" de el " in text for text in left)


def test_a_training_prompt_names_every_colour_of_its_scene() -> None:
    rng = random.Random(6)
    stems = {"red": "roj", "green": "verde", "blue": "azul", "yellow": "amarill", "black": "negr"}
    for _ in range(500):
        scene = random_scene(rng)
        prompt = training_prompt(scene, rng).lower()
        for figure in scene.figures:
            if figure.colour in stems:
                assert figure.colour in prompt or stems[figure.colour] in prompt, (prompt, scene)
