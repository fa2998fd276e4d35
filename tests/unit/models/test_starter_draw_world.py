from __future__ import annotations

import random
from itertools import islice, product

import pytest
from PIL import Image, ImageDraw
from trenza_recipes.starter_chat.held_out import is_held_out
from trenza_recipes.starter_draw.held_out import scene_is_held_out
from trenza_recipes.starter_draw.judging import judge
from trenza_recipes.starter_draw.scenes import random_scene
from trenza_recipes.starter_draw.world import COLOURS, PLACES, SHAPES, Figure, Scene, render

SIZES = [(64, 64), (128, 128), (256, 256), (512, 512), (160, 104), (96, 168), (1024, 576)]
RED_CIRCLE = Scene((Figure("circle", "red"),))


def scenes(seed: int, count: int, *, held_out: bool = False) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(rng, held_out=held_out) for _ in range(count)]


def anywhere(seed: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.random() for _ in range(PLACES)]


@pytest.mark.parametrize("size", SIZES)
def test_a_scene_drawn_by_the_recipe_is_judged_right_wherever_its_figures_are(size: tuple[int, int]) -> None:
    for seed, scene in enumerate(scenes(3, 25) + scenes(4, 10, held_out=True)):
        verdict = judge(render(scene, *size, anywhere(seed)), scene)
        assert verdict.right, (scene, verdict)


def test_a_picture_enlarged_softly_is_still_judged_right() -> None:
    for seed, scene in enumerate(scenes(5, 20)):
        small = render(scene, 128, 128, anywhere(seed))
        assert judge(small.resize((512, 512), Image.Resampling.LANCZOS), scene).right, scene


def test_a_picture_of_another_scene_is_judged_wrong() -> None:
    shown = [scene for scene in scenes(6, 60) if all(figure.colour for figure in scene.figures)]
    for seed, (scene, asked) in enumerate(islice(product(shown, shown[:20]), 0, None, 7)):
        if scene != asked:
            assert not judge(render(scene, 128, 128, anywhere(seed)), asked).right, (scene, asked)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (Scene((Figure("square", "red"),)), "form"),
        (Scene((Figure("circle", "orange"),)), "colour"),
        (Scene((Figure("circle", "red"),), background="yellow"), "background"),
        (Scene((Figure("circle", "red"), Figure("circle", "red")), "beside"), "count"),
    ],
)
def test_the_verdict_names_what_is_wrong(asked: Scene, problem: str) -> None:
    assert judge(render(RED_CIRCLE, 128, 128, [0.5] * PLACES), asked).problem == problem


def test_places_count() -> None:
    pair = (Figure("star", "blue"), Figure("square", "green"))
    picture = render(Scene(pair, "beside"), 128, 128, [0.5] * PLACES)
    assert judge(picture, Scene(pair, "beside")).right
    assert judge(picture, Scene(pair, "stacked")).problem == "place"
    assert judge(picture, Scene(pair[::-1], "beside")).problem == "place"


def test_any_colour_that_shows_will_do_where_the_scene_names_none() -> None:
    asked = Scene((Figure("circle", None),))
    for colour in COLOURS:
        picture = render(Scene((Figure("circle", colour),)), 128, 128, [0.5] * PLACES)
        assert judge(picture, asked).right == (colour != "white")


def test_a_blurred_mixture_of_two_shapes_is_judged_wrong() -> None:
    star, square = (render(Scene((Figure(shape, "red"),)), 128, 128, [0.5] * PLACES) for shape in ("star", "square"))
    mixture = Image.blend(star, square, 0.5)
    assert not any(judge(mixture, Scene((Figure(shape, "red"),))).right for shape in SHAPES)


def test_scattered_specks_are_judged_wrong() -> None:
    picture = render(RED_CIRCLE, 128, 128, [0.5] * PLACES)
    brush = ImageDraw.Draw(picture)
    for x, y in product(range(4, 124, 10), (4, 14, 110, 120)):
        brush.rectangle((x, y, x + 2, y + 2), fill=(0, 0, 255))
    assert judge(picture, RED_CIRCLE).problem == "specks"


@pytest.mark.parametrize("colour", list(COLOURS.values()))
def test_an_empty_picture_is_judged_wrong(colour: tuple[int, int, int]) -> None:
    assert not judge(Image.new("RGB", (256, 256), colour), RED_CIRCLE).right


def test_training_scenes_never_have_a_held_out_figure_and_tests_always_do() -> None:
    assert not any(scene_is_held_out(scene) for scene in scenes(7, 500))
    assert all(scene_is_held_out(scene) for scene in scenes(8, 200, held_out=True))


def test_about_one_combination_in_seven_is_held_out() -> None:
    keys = [
        f"{shape} {colour} {ground}" for shape, colour, ground in product(SHAPES, COLOURS, COLOURS) if colour != ground
    ]
    assert 0.1 < sum(map(is_held_out, keys)) / len(keys) < 0.2
    assert is_held_out("star yellow white") == is_held_out("star yellow white")


def test_every_figure_shows_on_its_background() -> None:
    for scene in scenes(9, 500):
        assert all(figure.colour_on(scene.background) != scene.background for figure in scene.figures)
