"""The official OpenAI client, unmodified: what its users do works as they expect."""

from __future__ import annotations

import openai
import pytest
from contract_target import Target
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

MODEL = "starter-chat"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there, my friend"}]


def test_models(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert MODEL in [model.id for model in listed]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    assert model.created >= 0
    assert model.owned_by


def test_a_whole_answer(client: openai.OpenAI, target: Target) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, max_tokens=32, seed=1)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    if target.parrots:
        assert choice.message.content == "hello there, my friend"
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None
    assert answer._request_id


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, max_tokens=32)
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0, max_tokens=32, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    *said, last = chunks
    assert said[0].choices[0].delta.role == "assistant"
    assert text_of(said) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in said if c.choices[0].finish_reason] == [whole.choices[0].finish_reason]
    assert all(chunk.usage is None for chunk in said)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_streaming_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HELLO, temperature=0, max_tokens=16) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


async def test_the_asynchronous_client(target: Target) -> None:
    async with openai.AsyncOpenAI(base_url=f"{target.http_url}/v1", api_key="unused", max_retries=0) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=16, stream=True)
        chunks = [chunk async for chunk in stream]
    assert text_of(chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=2, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["one, two,", "red, green,"], max_tokens=4, logprobs=1, echo=True
    )
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[1].text.startswith("red, green,")
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs or []) == len(logprobs.text_offset or []) > 0


def test_streamed_completions(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model=MODEL, prompt="one, two,", max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_fields_beyond_openai(client: openai.OpenAI) -> None:
    extra = {"top_k": 5, "min_p": 0.05, "repeat_penalty": 1.1, "priority": 0, "no_such_field": True}
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=4, extra_body=extra, extra_headers={"X-Request-Id": "mine-1"}
    )
    assert answer.headers["x-trenza-ignored-fields"] == "no_such_field"
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.parse().choices


class TestErrors:
    def test_an_unknown_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-9", messages=HELLO)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        assert caught.value.request_id
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")

    def test_a_wrong_field(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=HELLO, temperature=9)
        assert (caught.value.type, caught.value.param) == ("invalid_request_error", "temperature")

    def test_what_cannot_be_honoured(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model=MODEL, messages=HELLO, tools=[{"type": "function", "function": {"name": "f"}}]
            )
        assert caught.value.param == "tools"

    def test_too_long_a_prompt(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 10_000_000}])
        assert caught.value.code == "context_length_exceeded"

    def test_a_stream_that_breaks_off(self, client: openai.OpenAI, target: Target) -> None:
        if not target.parrots:
            pytest.skip("a healthy mesh does not break off; the tests that kill its processes see to this")
        stream = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "break off"}], stream=True
        )
        seen: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError, match="The engine crashed") as caught:
            seen.extend(stream)
        assert caught.value.code == "engine_crashed"
        assert text_of(seen) == "br"


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
