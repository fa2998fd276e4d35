"""Requests that are wrong, and what they are told; through a real gateway."""

from __future__ import annotations

import json
from typing import Any

import httpx
from gateway_fakes import MODEL, FakeFleet, chat_body, fake_fleet

USER = {"role": "user", "content": "hi"}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [USER], **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "one, two,", **fields}


WRONG_CHAT: list[tuple[dict[str, Any], str]] = [
    ({"messages": [USER]}, "model"),
    ({"model": MODEL}, "messages"),
    ({"model": "", "messages": [USER]}, "model"),
    (chat(model=7), "model"),
    (chat(messages=[]), "messages"),
    (chat(messages="hi"), "messages"),
    (chat(messages=["hi"]), "messages[0]"),
    (chat(messages=[USER, {"role": "user"}]), "messages[1].content"),
    (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
    (chat(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role"),
    (chat(messages=[{"content": "hi"}]), "messages[0].role"),
    (chat(messages=[{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
    (chat(messages=[{"role": "user", "content": [{"type": "smell"}]}]), "messages[0].content[0].type"),
    (
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        "messages[0].content[0]",
    ),
    (chat(messages=[{"role": "tool", "content": "4"}]), "messages[0].tool_call_id"),
    (chat(temperature=3), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(temperature=True), "temperature"),
    (chat(top_p=-0.1), "top_p"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_completion_tokens=1.5), "max_completion_tokens"),
    (chat(n=0), "n"),
    (chat(n=17), "n"),
    (chat(presence_penalty=2.1), "presence_penalty"),
    (chat(seed=2**63), "seed"),
    (chat(stop=[""]), "stop[0]"),
    (chat(stop=["x"] * 17), "stop"),
    (chat(stop=4), "stop"),
    (chat(logit_bias={"yes": 1}), "logit_bias"),
    (chat(logit_bias={"5": 101}), "logit_bias"),
    (chat(top_logprobs=3), "top_logprobs"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(logprobs=2), "logprobs"),
    (chat(stream="yes"), "stream"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(response_format={"type": "xml"}), "response_format.type"),
    (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (
        chat(response_format={"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}),
        "response_format.json_schema.name",
    ),
    (chat(response_format={"type": "json_schema", "json_schema": {"name": "a"}}), "response_format.json_schema.schema"),
    (chat(response_format={"type": "json_object"}, grammar="root ::= [a]"), "grammar"),
    (chat(priority=3), "priority"),
    (chat(priority="1"), "priority"),
    (chat(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
    (chat(tool_choice="required"), "tool_choice"),
    (chat(functions=[{"name": "f"}]), "functions"),
    (chat(modalities=["text", "audio"]), "modalities"),
    (chat(audio={"voice": "alloy"}), "audio"),
    (chat(reasoning_effort="high"), "reasoning_effort"),
    (chat(verbosity="low"), "verbosity"),
    (chat(web_search_options={}), "web_search_options"),
]

WRONG_COMPLETIONS: list[tuple[dict[str, Any], str]] = [
    ({"model": MODEL}, "prompt"),
    (completion(prompt=[]), "prompt"),
    (completion(prompt=5), "prompt"),
    (completion(prompt=[1, "x"]), "prompt[0]"),
    (completion(prompt=[[]]), "prompt[0]"),
    (completion(prompt=[-1]), "prompt[0]"),
    (completion(best_of=3), "best_of"),
    (completion(suffix="end"), "suffix"),
    (completion(logprobs=6), "logprobs"),
    (completion(echo=1), "echo"),
    (completion(prompt=["x"] * 128, n=2), "n"),
]

HARMLESS: list[dict[str, Any]] = [
    chat(user="me", store=True, metadata={"a": "b"}, service_tier="auto", parallel_tool_calls=True),
    chat(safety_identifier="x", prediction={"type": "content", "content": "y"}, prompt_cache_key="k"),
    chat(tools=[], tool_choice="none", functions=None, modalities=["text"], audio=None, reasoning_effort=None),
    chat(temperature=None, stop=None, n=None, logit_bias={}, response_format={"type": "text"}, stream_options=None),
    chat(verbosity="medium", reasoning_effort="none", tool_choice="auto"),
]


def the_error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)


async def test_wrong_fields_are_named(fleet: FakeFleet) -> None:
    for path, cases in (("/v1/chat/completions", WRONG_CHAT), ("/v1/completions", WRONG_COMPLETIONS)):
        for body, param in cases:
            error = the_error(await fleet.client.post(path, json=body), 400)
            assert (error["type"], error["param"]) == ("invalid_request_error", param), body
    assert not fleet.scheduler.tickets


async def test_harmless_fields_are_accepted(fleet: FakeFleet) -> None:
    for body in HARMLESS:
        response = await fleet.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        assert "x-trenza-ignored-fields" not in response.headers


async def test_unknown_fields_are_ignored_and_named(fleet: FakeFleet) -> None:
    response = await fleet.chat(frobnicate=1, mirostat=2)
    assert response.status_code == 200
    assert response.headers["x-trenza-ignored-fields"] == "frobnicate, mirostat"
    nasty: dict[str, Any] = {f"bad\r\nname{number}é" * 10: 1 for number in range(50)}
    response = await fleet.chat(stream=True, **nasty)
    assert response.status_code == 200
    assert len(response.headers["x-trenza-ignored-fields"]) < 1100


NO_JSON_OBJECTS = (
    b"",
    b"{",
    b"nonsense",
    b"[]",
    b"null",
    b'{"model": "\xff\xfe"}',
    b'{"model": "\\ud800"}',
    b"[" * 100_000,
)


async def test_what_is_no_json_object_is_a_400(fleet: FakeFleet) -> None:
    for body in NO_JSON_OBJECTS:
        the_error(await fleet.client.post("/v1/chat/completions", content=body), 400)


async def test_not_a_number_is_no_temperature(fleet: FakeFleet) -> None:
    body = json.dumps(chat(temperature=1)).replace("1}", "NaN}")
    assert the_error(await fleet.client.post("/v1/chat/completions", content=body), 400)["param"] == "temperature"


async def test_unknown_models(fleet: FakeFleet) -> None:
    error = the_error(await fleet.chat(model="gpt-9"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert the_error(await fleet.client.get("/v1/models/gpt-9"), 404)["code"] == "model_not_found"
    assert len(the_error(await fleet.chat(model="x" * 5000), 404)["message"]) < 200
    assert not fleet.scheduler.tickets


async def test_unknown_paths_and_methods(fleet: FakeFleet) -> None:
    the_error(await fleet.client.get("/v1/nothing"), 404)
    the_error(await fleet.client.get("/"), 404)
    response = await fleet.client.get("/v1/chat/completions")
    the_error(response, 405)
    assert response.headers["allow"] == "POST"
    the_error(await fleet.client.delete("/v1/models/starter-chat"), 405)


async def test_bodies_that_are_too_large() -> None:
    async with fake_fleet(body_limit_bytes=100_000, pictures_limit_bytes=1024) as fleet:
        declared = await fleet.client.post("/v1/chat/completions", json=chat_body("x" * 200_000))
        assert the_error(declared, 413)["code"] == "body_too_large"

        async def pieces() -> Any:
            for _ in range(300):
                yield b" " * 1000

        chunked = await fleet.client.post("/v1/chat/completions", content=pieces())
        the_error(chunked, 413)
        assert (await fleet.chat()).status_code == 200


async def test_only_what_may_be_a_picture_makes_a_body_larger() -> None:
    async with fake_fleet(body_limit_bytes=100_000) as fleet:
        values = await fleet.client.post("/v1/chat/completions", json=chat(metadata=[[]] * 100_000))
        error = the_error(values, 413)
        assert (error["code"], error["message"]) == (
            "body_too_large",
            "The body, pictures aside, must be at most 100000 bytes.",
        )
        completion_body = completion(prompt="x" * 110_000, suffix="")
        the_error(await fleet.client.post("/v1/completions", json=completion_body), 413)
        assert (await fleet.chat("x" * 110_000)).status_code == 200


async def test_prompts_that_cannot_fit_are_refused_at_once(fleet: FakeFleet) -> None:
    error = the_error(await fleet.chat("x" * 10_000_000), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    body = {"model": MODEL, "prompt": "x" * 10_000_000}
    assert the_error(await fleet.client.post("/v1/completions", json=body), 400)["param"] == "prompt"
    assert not fleet.scheduler.tickets


async def test_bodies_of_all_requests_together_are_bounded() -> None:
    async with fake_fleet(bodies_limit_bytes=50_000) as fleet:
        error = the_error(await fleet.chat("x" * 60_000), 503)
        assert error["code"] == "overloaded"
        assert (await fleet.chat()).status_code == 200


async def test_priority(fleet: FakeFleet) -> None:
    for header, field, expected in [("0", None, 1), ("2", None, 3), (None, 2, 3), ("0", 2, 3), (None, None, 2)]:
        headers = {"X-Priority": header} if header else {}
        body = chat() if field is None else chat(priority=field)
        response = await fleet.client.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200
        assert fleet.scheduler.tickets[-1].priority == expected
        assert fleet.replicas[0].requests[-1].context.priority == expected
    response = await fleet.client.post("/v1/chat/completions", json=chat(), headers={"X-Priority": "high"})
    assert the_error(response, 400)["param"] == "X-Priority"


async def test_models_are_listed(fleet: FakeFleet) -> None:
    listed = (await fleet.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert (model["id"], model["object"], model["owned_by"], model["created"]) == (
        MODEL,
        "model",
        "trenza",
        1_700_000_000,
    )
    assert (model["modality"], model["state"], model["context_length"]) == ("chat", "loaded", 512)
    assert model["capabilities"] == ["chat", "completion"]
    assert (await fleet.client.get(f"/v1/models/{MODEL}")).json() == model


async def test_request_ids(fleet: FakeFleet) -> None:
    async def sent_and_returned(said: str) -> str:
        response = await fleet.client.get("/v1/models", headers={"x-request-id": said})
        return str(response.headers["x-request-id"])

    assert await sent_and_returned("abc-1.2_3") == "abc-1.2_3"
    assert await sent_and_returned('a b<script>"') == "abscript"
    assert await sent_and_returned("x" * 500) == "x" * 64
    assert (await sent_and_returned("???")).startswith("req-")
    same = {"x-request-id": "same"}
    for _ in range(2):
        await fleet.client.post("/v1/chat/completions", json=chat(), headers=same)
    first, second = (ticket.request_id for ticket in fleet.scheduler.tickets)
    assert first != second


async def test_several_choices_take_as_many_slots(fleet: FakeFleet) -> None:
    body = (await fleet.chat("a b", n=3)).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"a b"}
    assert fleet.scheduler.tickets[0].slots == 3
    assert fleet.replicas[0].requests[0].options.choices == 3
    streamed = await fleet.chat("a b", n=2, stream=True)
    assert streamed.text.count('"finish_reason":"stop"') == 2


async def test_several_prompts(fleet: FakeFleet) -> None:
    body = completion(prompt=["one", "two", "three"], n=2, echo=True, logprobs=1, max_tokens=2)
    answer = (await fleet.client.post("/v1/completions", json=body)).json()
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == ["one and on", "one and on", "two and on", "two and on", "three and on", "three and on"]
    logprobs = answer["choices"][5]["logprobs"]
    assert logprobs["tokens"] == ["three", " and", " on"]
    assert logprobs["text_offset"] == [0, 5, 9]
    assert logprobs["token_logprobs"] == [-0.25, -0.25, -0.25]
    assert logprobs["top_logprobs"][0] == {"three": -0.25}
    assert answer["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 12,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    tickets = {ticket.request_id for ticket in fleet.scheduler.tickets}
    assert len(tickets) == 3


async def test_several_prompts_streamed(fleet: FakeFleet) -> None:
    body = completion(prompt=["one", "two"], stream=True, stream_options={"include_usage": True})
    response = await fleet.client.post("/v1/completions", json=body)
    chunks = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: {")]
    finished = [
        c["choices"][0]["index"] for c in chunks if c["choices"] and c["choices"][0]["finish_reason"] == "length"
    ]
    assert sorted(finished) == [0, 1]
    assert chunks[-1]["usage"]["total_tokens"] == 8
    assert response.text.endswith("data: [DONE]\n\n")
    assert fleet.replicas[0].requests[0].options.max_tokens == 16


async def test_prompts_as_tokens(fleet: FakeFleet) -> None:
    await fleet.client.post("/v1/completions", json=completion(prompt=[1, 2, 3]))
    await fleet.client.post("/v1/completions", json=completion(prompt=[[1, 2], [3]]))
    assert sorted(list(r.tokens.ids) for r in fleet.replicas[0].requests) == [[1, 2], [1, 2, 3], [3]]
