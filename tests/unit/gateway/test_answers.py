"""Whole answers and streams through a real gateway, from JSON to the replica and back."""

from __future__ import annotations

import json
from typing import Any

from fleet_fakes import eventually
from gateway_fakes import MODEL, FakeFleet, chat_body


def events(body: str) -> list[Any]:
    found = [line.removeprefix("data: ") for line in body.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in found]


async def test_a_whole_answer(fleet: FakeFleet) -> None:
    response = await fleet.chat("one two three")
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == MODEL
    assert body["system_fingerprint"] == "fp_fake"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"]["prompt_tokens"] == 10
    assert body["usage"]["total_tokens"] == 13
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    await eventually(lambda: fleet.outcomes() == ["OUTCOME_COMPLETED"])
    assert fleet.scheduler.releases[0].units_used == 13


async def test_a_stream(fleet: FakeFleet) -> None:
    response = await fleet.chat("one two", stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "one"},
        {"content": " two"},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_what_the_replica_is_told(fleet: FakeFleet) -> None:
    body = chat_body(priority=0, temperature=0.5, max_completion_tokens=7, stop=["x"], seed=3, session_id="s1")
    response = await fleet.client.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] == "mine"
    request = fleet.replicas[0].requests[0]
    assert request.context.request_id.startswith("mine.")
    assert request.context.lease_id == "lease-1"
    assert request.context.tenant == "anonymous"
    assert request.context.session_id == "s1"
    assert request.options.max_tokens == 7
    assert request.options.seed == 3
    assert not request.options.HasField("top_p")
    assert fleet.replicas[0].metadata[0]["x-trenza-lease"] == "lease-1"
    ticket = fleet.scheduler.tickets[0]
    assert (ticket.model, ticket.slots, ticket.priority) == (MODEL, 1, 1)
    assert len(ticket.prefix_hashes) == 1
