"""The official OpenAI client shows pictures: what its users do works as they expect."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from gateway_fakes import MODEL
from vision_fakes import CRASH, IMAGE_TOKENS, SEES, Seen, data_url, describes, picture, vision_fleet

BREAK_OFF = "break off"
SCHEMA: dict[str, object] = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}


async def script(seen: Seen) -> AsyncIterator[Any]:
    """Describes, except that it fails in the middle of one answer."""
    asked = seen.conversation.messages[-1].content[0].text
    messages = describes(seen)
    async for message in messages:
        yield message
        if asked == BREAK_OFF and message.HasField("answer"):
            raise CRASH


@pytest.fixture(scope="module")
def vision_url() -> Iterator[str]:
    """A gateway in front of a fake vision and a fake chat replica, in a thread of its own, since the official client blocks."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with vision_fleet(picture_limit=4, picture_limit_bytes=2**20) as fleet:
            fleet.eyes[0].script = script
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
def client(vision_url: str) -> Iterator[openai.OpenAI]:
    """The official client, as its users make it."""
    with openai.OpenAI(base_url=f"{vision_url}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def turn(text: str, *pictures: bytes, **how: Any) -> Any:
    """What a user says and shows."""
    shown = [{"type": "image_url", "image_url": {"url": data_url(content), **how}} for content in pictures]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}


def test_pictures(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=SEES,
        messages=[
            turn("What is this?", picture("cat", 300)),
            turn("And these?", picture("dog", 400), picture("cat", 300)),
        ],
        max_completion_tokens=20,
        temperature=0,
    )
    assert answer.choices[0].message.content == " I see [300, 400, 300]"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13 + 3 * IMAGE_TOKENS
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.image_tokens == 3 * IMAGE_TOKENS


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=SEES,
        messages=[turn("What is this?", picture(), detail="low")],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == " I see [1000]"
    assert chunks[-1].usage is not None


def test_probabilities_choices_and_a_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=SEES,
        messages=[turn("What is this?", picture())],
        n=2,
        logprobs=True,
        top_logprobs=1,
        response_format={"type": "json_schema", "json_schema": {"name": "seen", "schema": SCHEMA, "strict": True}},
    )
    assert len(answer.choices) == 2
    assert answer.choices[1].logprobs is not None
    assert answer.choices[1].logprobs.content is not None
    assert answer.choices[1].logprobs.content[0].top_logprobs[0].token == " I see"


def test_a_stream_that_breaks_off(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=SEES, messages=[turn(BREAK_OFF, picture())], stream=True)
    with pytest.raises(openai.APIError, match="crashed"):
        list(stream)


def test_a_model_that_cannot_see(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=f"These can: {SEES}") as caught:
        client.chat.completions.create(model=MODEL, messages=[turn("What is this?", picture())])
    assert (caught.value.param, caught.value.code) == ("messages[0].content[1]", "unsupported_content")


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ({"url": "data:image/png;base64,###"}, "invalid_base64"),
        ({"url": "https://cats.test/cat.png"}, "invalid_image_url"),
        ({"url": "http://169.254.169.254/latest/meta-data/"}, "invalid_image_url"),
    ],
)
def test_pictures_that_cannot_be_had(client: openai.OpenAI, shown: Any, code: str) -> None:
    message: Any = {"role": "user", "content": [{"type": "image_url", "image_url": shown}]}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=SEES, messages=[message])
    assert (caught.value.param, caught.value.code) == ("messages[0].content[0]", code)


def test_limits(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=SEES, messages=[turn("?", *[picture()] * 5)])
    assert caught.value.param == "messages[0].content[5]"
    with pytest.raises(openai.APIStatusError) as too_large:
        client.chat.completions.create(model=SEES, messages=[turn("?", picture(size_bytes=2**20 + 1))])
    assert (too_large.value.status_code, too_large.value.code) == (413, "image_too_large")


def test_the_list_of_models(client: openai.OpenAI) -> None:
    model = client.models.retrieve(SEES)
    assert model.model_extra is not None
    assert (model.model_extra["modality"], model.model_extra["capabilities"]) == ("vision", ["chat", "image_input"])
