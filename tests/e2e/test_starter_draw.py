"""starter-draw really draws: held-out prompts in held-out phrasings, asked for through HTTP, judged by their pixels."""

from __future__ import annotations

import io
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from e2e.load import client_of
from mesh import Mesh
from PIL import Image, ImageChops
from trenza_recipes.starter_draw.judging import judge
from trenza_recipes.starter_draw.prompts import held_out_prompts, unseen_phrasings
from trenza_recipes.starter_draw.world import Figure, Scene

MODEL = "starter-draw"
REQUIRED = 0.9
COUNT = 120
SEED = 20_000  # not the seed that the recipe's own evaluation uses


@pytest.fixture(scope="module")
def client(full_mesh: Mesh) -> openai.OpenAI:
    return client_of(full_mesh)


def drawn(client: openai.OpenAI, prompt: str, seed: int = 0, steps: int | None = None, **options: Any) -> Image.Image:
    extra = {"seed": seed, **({"steps": steps} if steps else {})}
    answer = client.images.generate(model=MODEL, prompt=prompt, response_format="b64_json", extra_body=extra, **options)
    assert answer.data
    return Image.open(io.BytesIO(b64decode(answer.data[0].b64_json or ""))).convert("RGB")


def greatest_difference(one: Image.Image, other: Image.Image) -> int:
    """Of any pixel in any channel, of 255."""
    return int(np.asarray(ImageChops.difference(one, other)).max())


@pytest.mark.parametrize(
    ("size", "steps"),
    [(None, None), (None, 1), (None, 4), ("256x256", 1), ("256x256", 4), ("512x512", 1), ("512x512", 4)],
)
def test_held_out_prompts(client: openai.OpenAI, size: Any, steps: int | None) -> None:
    asked = held_out_prompts(COUNT, SEED + (steps or 0))
    options = {"size": size} if size else {}
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda item: drawn(client, item[1][0], item[0], steps, **options), enumerate(asked)))
    verdicts = [judge(picture, scene) for picture, (_, scene) in zip(pictures, asked, strict=True)]
    wrong = [
        f"{prompt!r}: {verdict.problem}, {verdict.figures} on {verdict.background}"
        for verdict, (prompt, _) in zip(verdicts, asked, strict=True)
        if not verdict.right
    ]
    assert len(wrong) <= (1 - REQUIRED) * COUNT, f"{len(wrong)} of {COUNT}:\n" + "\n".join(wrong)


def test_ordinary_phrasing_that_no_template_has(client: openai.OpenAI) -> None:
    assert any("would like" in phrasing for phrasing in unseen_phrasings("en"))
    asked = ("I would like a blue star", "Quisiera ver una estrella azul, por favor")
    scene = Scene((Figure("star", "blue"),))
    assert [judge(drawn(client, prompt), scene).right for prompt in asked] == [True, True]


def test_a_seed_gives_the_picture_again_and_another_gives_another(client: openai.OpenAI) -> None:
    prompt = "a purple circle"
    with ThreadPoolExecutor(6) as pool:  # whatever else is being drawn
        crowd = [pool.submit(drawn, client, "two green squares", seed) for seed in range(5)]
        again = pool.submit(drawn, client, prompt, 7).result()
        assert all(other.result() for other in crowd)
    first, other = drawn(client, prompt, 7), drawn(client, prompt, 8)
    assert greatest_difference(first, again) <= 2
    assert greatest_difference(first, other) > 30


def test_several_pictures_in_every_format(client: openai.OpenAI) -> None:
    formats: dict[Any, str] = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
    for name, kind in formats.items():
        answer = client.images.generate(
            model=MODEL, prompt="a red square", n=3, size="512x256", output_format=name, response_format="b64_json"
        )
        assert answer.data
        pictures = [Image.open(io.BytesIO(b64decode(item.b64_json or ""))) for item in answer.data]
        assert [(picture.format, picture.size) for picture in pictures] == [(kind, (512, 256))] * 3


def test_a_link_shows_the_picture(client: openai.OpenAI) -> None:
    answer = client.images.generate(model=MODEL, prompt="a red square", response_format="url")
    assert answer.data
    assert answer.data[0].url
    found = httpx.get(answer.data[0].url)
    assert found.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(found.content)).size == (256, 256)


def test_streams_show_the_picture_on_its_way(client: openai.OpenAI) -> None:
    events = list(
        client.images.generate(
            model=MODEL, prompt="a red square", stream=True, partial_images=2, extra_body={"steps": 4}
        )
    )
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert all(Image.open(io.BytesIO(b64decode(event.b64_json))).size == (256, 256) for event in events)


def test_edits_and_variations(client: openai.OpenAI) -> None:
    stream = io.BytesIO()
    source = Image.new("RGB", (256, 256), "white")
    source.save(stream, "PNG")
    edited = client.images.edit(
        model=MODEL,
        image=("white.png", stream.getvalue()),
        prompt="a red circle",
        response_format="b64_json",
        extra_body={"seed": 1, "steps": 4, "strength": 1.0},
    )
    assert edited.data
    picture = Image.open(io.BytesIO(b64decode(edited.data[0].b64_json or ""))).convert("RGB")
    assert judge(picture, Scene((Figure("circle", "red"),))).right
    with pytest.warns(DeprecationWarning, match="deprecated"):
        varied = client.images.create_variation(
            model=MODEL, image=("white.png", stream.getvalue()), n=2, response_format="b64_json"
        )
    assert varied.data
    assert len(varied.data) == 2


def test_nonsense_is_told_what_is_wrong(client: openai.OpenAI) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "n": {"n": 11},
        "size": {"size": "7x7"},
        "prompt": {"prompt": ""},
        "background": {"background": "transparent"},
    }
    for param, options in wrong.items():
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.generate(**{"model": MODEL, "prompt": "a red circle", **options})
        assert caught.value.param == param
    for size in ("100000x100000", "8192x8192"):
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.generate(model=MODEL, prompt="a red circle", size=size)
        assert caught.value.param == "size"
    long = client.images.generate(model=MODEL, prompt="a red circle " + "and so on " * 5000, response_format="b64_json")
    assert (long.model_extra or {})["truncated_prompt"].rstrip().endswith("and so on")
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="starter-chat", prompt="a red circle")
    assert MODEL in str(caught.value)
