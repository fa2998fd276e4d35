"""The official OpenAI client on the images endpoints: what its users do works as they expect."""

from __future__ import annotations

import asyncio
import io
import threading
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from images_fakes import BAD_SIZE, CRASH, DRAWS, Asked, draws, images_fleet, picture
from openai.types import (
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:deprecated"
)  # as the client calls variations, which OpenAI has given up

BREAK_OFF = "break off"


async def script(answer: type, asked: Asked) -> AsyncIterator[Any]:
    """Draws, except pictures of 7x7, and except that it fails in the middle of one."""
    if asked.options.width == 7:
        raise BAD_SIZE
    async for message in draws(answer, asked):
        if asked.prompt == BREAK_OFF and message.event.HasField("image"):
            raise CRASH
        yield message


@pytest.fixture(scope="module")
def images_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway in front of a fake images replica, in a thread of its own, since the official client blocks."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    folder = tmp_path_factory.mktemp("media")

    async def serve() -> None:
        async with images_fleet(image_limit_bytes=2**20, media_folder=folder) as fleet:
            fleet.replicas[0].script = script
            started.append(fleet.http_url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(30), "the fakes did not start"
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)


@pytest.fixture
def images(images_url: str) -> Iterator[openai.OpenAI]:
    """The official client, as its users make it."""
    with openai.OpenAI(base_url=f"{images_url}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def contents(answer: openai.types.ImagesResponse) -> list[bytes]:
    """The pictures of an answer."""
    return [b64decode(item.b64_json or "", validate=True) for item in answer.data or ()]


class TestGenerate:
    def test_every_field(self, images: openai.OpenAI) -> None:
        answer = images.images.generate(
            model=DRAWS,
            prompt="a red circle",
            n=2,
            size="512x512",
            quality="hd",
            background="opaque",
            output_format="webp",
            output_compression=80,
            moderation="low",
            user="me",
            extra_body={"seed": 5, "steps": 2, "guidance_scale": 0, "negative_prompt": "blue"},
        )
        assert contents(answer) == [picture(0), picture(1)]
        assert answer.created > 1_700_000_000
        assert (answer.size, answer.quality, answer.background) == ("512x512", "medium", "opaque")
        assert answer.output_format == "webp"
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (3, 0, 3)
        assert answer.usage.input_tokens_details.text_tokens == 3
        assert [item.url for item in answer.data or ()] == [None, None]
        assert [item.model_extra for item in answer.data or ()] == [{"seed": 5}, {"seed": 6}]

    def test_no_model(self, images: openai.OpenAI) -> None:
        assert contents(images.images.generate(prompt="a red circle")) == [picture()]

    def test_links(self, images: openai.OpenAI) -> None:
        answer = images.images.generate(model=DRAWS, prompt="a red circle", response_format="url")
        [item] = answer.data or []
        assert item.b64_json is None
        assert httpx.get(item.url or "").content == picture()

    def test_streams(self, images: openai.OpenAI) -> None:
        stream = images.images.generate(model=DRAWS, prompt="a red circle", stream=True, partial_images=2, size="auto")
        events = list(stream)
        assert [type(event) for event in events] == [ImageGenPartialImageEvent] * 2 + [ImageGenCompletedEvent]
        assert [b64decode(event.b64_json) for event in events] == [picture(0, 0), picture(0, 1), picture(0)]
        first, second, last = events
        assert isinstance(first, ImageGenPartialImageEvent)
        assert isinstance(second, ImageGenPartialImageEvent)
        assert isinstance(last, ImageGenCompletedEvent)
        assert (first.partial_image_index, second.partial_image_index) == (0, 1)
        assert (last.size, last.quality, last.output_format) == ("64x64", "medium", "png")
        assert last.usage.total_tokens == last.usage.input_tokens_details.text_tokens == 3
        for event in events:
            type(event).model_validate(event.model_dump(), strict=True)

    @pytest.mark.parametrize(
        ("fields", "param"), [({"n": 11}, "n"), ({"size": "7x7"}, "size"), ({"size": "100000x100000"}, "size")]
    )
    def test_bad_requests(self, images: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            images.images.generate(model=DRAWS, prompt="a red circle", **fields)
        assert caught.value.param == param

    def test_an_unknown_model(self, images: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            images.images.generate(model="dall-e-3", prompt="a red circle")
        assert caught.value.code == "model_not_found"

    def test_a_stream_that_breaks_off(self, images: openai.OpenAI) -> None:
        stream = iter(images.images.generate(model=DRAWS, prompt=BREAK_OFF, stream=True, partial_images=1))
        assert next(stream).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError) as caught:
            next(stream)
        assert caught.value.code == "engine_crashed"


class TestEdit:
    def test_one_picture_and_a_mask(self, images: openai.OpenAI, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(picture())
        with path.open("rb") as file:
            answer = images.images.edit(
                model=DRAWS,
                image=file,
                mask=("mask.png", io.BytesIO(b"mask")),
                prompt="a star",
                n=2,
                size="256x256",
                input_fidelity="low",
                extra_body={"strength": 0.5, "seed": 1},
            )
        assert contents(answer) == [picture(0), picture(1)]

    def test_several_pictures(self, images: openai.OpenAI) -> None:
        several = [("a.png", b"one"), ("b.png", b"two")]
        answer = images.images.edit(image=several, prompt="a star", output_format="jpeg", response_format="b64_json")
        assert contents(answer) == [picture()]
        assert answer.output_format == "jpeg"

    def test_streams(self, images: openai.OpenAI) -> None:
        stream = images.images.edit(model=DRAWS, image=b"one", prompt="a star", stream=True, partial_images=1)
        events = list(stream)
        assert [type(event) for event in events] == [ImageEditPartialImageEvent, ImageEditCompletedEvent]
        for event in events:
            type(event).model_validate(event.model_dump(), strict=True)

    def test_a_picture_that_is_too_large(self, images: openai.OpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            images.images.edit(model=DRAWS, image=b"x" * (2**20 + 1), prompt="a star")
        assert caught.value.status_code == 413


class TestVariations:
    def test_several(self, images: openai.OpenAI) -> None:
        answer = images.images.create_variation(model=DRAWS, image=b"one", n=2, size="256x256", user="me")
        assert contents(answer) == [picture(0), picture(1)]

    def test_links(self, images: openai.OpenAI) -> None:
        answer = images.images.create_variation(image=b"one", response_format="url")
        [item] = answer.data or []
        assert httpx.get(item.url or "").content == picture()


async def test_async(images_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{images_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        answers = await asyncio.gather(
            client.images.generate(model=DRAWS, prompt="a red circle"),
            client.images.edit(model=DRAWS, image=b"one", prompt="a star"),
            client.images.create_variation(model=DRAWS, image=b"one"),
        )
        assert [contents(answer) for answer in answers] == [[picture()]] * 3
        stream = await client.images.generate(model=DRAWS, prompt="a red circle", stream=True, partial_images=1)
        assert [event.type async for event in stream] == [
            "image_generation.partial_image",
            "image_generation.completed",
        ]
