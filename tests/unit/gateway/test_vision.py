"""Conversations with pictures through a real gateway: what the replica gets, what the client is told."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fleet_fakes import eventually
from gateway_fakes import MODEL
from images_fakes import error_of
from trenza.chat.v1 import chat_pb2
from vision_fakes import (
    CRASH,
    IMAGE_TOKENS,
    NO_PICTURE,
    SEES,
    FakeVisionReplica,
    Seen,
    VisionFleet,
    asking,
    data_url,
    describes,
    failing,
    picture,
    said,
    shown,
    shows,
    turn,
    vision_fleet,
)

URL = "/v1/chat/completions"
ORIGINAL = "/vision"


@pytest.fixture
async def fleet() -> AsyncIterator[VisionFleet]:
    async with vision_fleet() as running:
        yield running


class TestAnswers:
    async def test_a_picture_and_a_question(self, fleet: VisionFleet) -> None:
        response = await fleet.ask("What is this?", picture(), max_tokens=9, stop=["."], seed=3)
        assert response.status_code == 200, response.text
        body = response.json()
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"]["content"] == " I see [1000]"
        assert body["choices"][0]["finish_reason"] == "stop"
        assert body["system_fingerprint"] == "fp_eye"
        assert body["usage"]["prompt_tokens"] == 10 + IMAGE_TOKENS
        assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "image_tokens": IMAGE_TOKENS}
        [seen] = fleet.eyes[0].seen
        assert seen.pictures == [picture()]
        assert (seen.media[0].media_type, seen.media[0].size_bytes) == ("image/png", 1000)
        [message] = seen.conversation.messages
        assert [part.WhichOneof("part") for part in message.content] == ["text", "image"]
        assert (seen.conversation.options.max_tokens, seen.conversation.options.seed) == (9, 3)
        assert list(seen.conversation.options.stop) == ["."]
        [ticket] = fleet.scheduler.tickets
        assert (ticket.model, ticket.modality) == (SEES, 3)
        await eventually(lambda: fleet.outcomes() == ["OUTCOME_COMPLETED"])
        assert seen.conversation.context.lease_id == fleet.scheduler.releases[0].lease_id
        assert fleet.scheduler.releases[0].units_used == 13 + IMAGE_TOKENS

    async def test_pictures_in_several_turns(self, fleet: VisionFleet) -> None:
        cat, dog = picture("cat", 300), picture("dog", 500)
        low = shows(data_url(dog, "image/jpeg"), detail="low")
        messages = [
            {"role": "system", "content": "Be brief."},
            turn("a", cat, "b", low),
            {"role": "assistant", "content": "Yes."},
            turn(shows(data_url(cat), detail="high"), "and now?"),
        ]
        response = await fleet.client.post(URL, json={"model": SEES, "messages": messages})
        assert response.json()["choices"][0]["message"]["content"] == " I see [300, 500, 300]"
        [seen] = fleet.eyes[0].seen
        assert seen.pictures == [cat, dog], "what is shown twice travels once"
        assert [image.upload_index for image in shown(seen.conversation)] == [0, 1, 0]
        details = [chat_pb2.IMAGE_DETAIL_UNSPECIFIED, chat_pb2.IMAGE_DETAIL_LOW, chat_pb2.IMAGE_DETAIL_HIGH]
        assert [image.detail for image in shown(seen.conversation)] == details
        assert [part.text for part in seen.conversation.messages[1].content] == ["a", "", "b", ""]

    async def test_text_alone(self, fleet: VisionFleet) -> None:
        response = await fleet.client.post(
            URL, json={"model": SEES, "messages": [{"role": "user", "content": "hello"}]}
        )
        assert response.status_code == 200
        assert fleet.eyes[0].seen[0].conversation.messages[0].content[0].text == "hello"

    async def test_several_choices_with_probabilities(self, fleet: VisionFleet) -> None:
        body = (await fleet.ask("?", picture(), n=2, logprobs=True, top_logprobs=1)).json()
        assert [choice["message"]["content"] for choice in body["choices"]] == [" I see [1000]"] * 2
        assert body["choices"][1]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] == -0.25
        assert fleet.scheduler.tickets[0].slots == 2

    async def test_a_form_for_the_answer(self, fleet: VisionFleet) -> None:
        schema = {"type": "object"}
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        assert (await fleet.ask("?", picture(), response_format=wanted)).status_code == 200
        assert json.loads(fleet.eyes[0].seen[0].conversation.response_format.json_schema.schema) == schema

    async def test_a_stream(self, fleet: VisionFleet) -> None:
        response = await fleet.ask("?", picture(), stream=True, stream_options={"include_usage": True})
        *events, done = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert done == "[DONE]"
        chunks = [json.loads(event) for event in events]
        texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
        assert "".join(texts) == " I see [1000]"
        assert chunks[-1]["usage"]["prompt_tokens_details"]["image_tokens"] == IMAGE_TOKENS

    async def test_a_large_picture_travels_in_pieces(self, fleet: VisionFleet) -> None:
        large = picture(size_bytes=3_000_001)
        assert (await fleet.ask("?", large)).status_code == 200
        assert fleet.eyes[0].seen[0].pictures == [large]
        assert fleet.eyes[0].seen[0].largest_piece_bytes <= 2**20

    async def test_base64_with_line_breaks(self, fleet: VisionFleet) -> None:
        text = b64encode(picture(size_bytes=2000)).decode()
        lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\n"
        assert (await fleet.ask("?", shows(f"data:image/png;base64,{lines}"))).status_code == 200
        assert fleet.eyes[0].seen[0].pictures == [picture(size_bytes=2000)]

    async def test_the_same_beginning_prefers_the_same_replica(self, fleet: VisionFleet) -> None:
        for content in ("cat", "cat", "dog"):
            await fleet.ask(picture(content), "?")
        cat, again, dog = [set(ticket.prefix_hashes) for ticket in fleet.scheduler.tickets]
        assert cat == again
        assert cat.isdisjoint(dog)

    async def test_tokens_are_counted(self, fleet: VisionFleet) -> None:
        await fleet.ask("?", picture())
        text = (await fleet.client.get("/metrics")).text
        assert f'trenza_gateway_tokens_total{{kind="image",model="{SEES}"}}' in text


class TestRetries:
    async def test_another_replica_gets_the_whole_upload(self) -> None:
        first, second = FakeVisionReplica("vision-0"), FakeVisionReplica("vision-1")
        first.refusal = CRASH
        async with vision_fleet(first, second) as fleet:
            response = await fleet.ask("?", picture(size_bytes=2_500_000))
            assert response.status_code == 200
            assert second.seen[0].pictures == [picture(size_bytes=2_500_000)]
            await eventually(lambda: len(fleet.scheduler.releases) == 2)
            assert second.seen[0].conversation.context.lease_id == fleet.scheduler.releases[-1].lease_id

    async def test_not_once_it_has_begun(self) -> None:
        replicas = [FakeVisionReplica(f"vision-{number}", failing(CRASH, after=2)) for number in range(2)]
        async with vision_fleet(*replicas) as fleet:
            assert error_of(await fleet.ask("?", picture()), 503)[1] == "engine_crashed"
            assert sum(len(replica.seen) for replica in replicas) == 1

    async def test_clients_that_leave_stop_the_work(self) -> None:
        async def endless(_seen: Seen) -> AsyncIterator[Any]:
            while True:
                yield said("on and ")

        eye = FakeVisionReplica(script=endless)
        async with vision_fleet(eye) as fleet:
            async with fleet.client.stream("POST", URL, json=asking("?", picture(), stream=True)) as response:
                await anext(response.aiter_lines())
            await eventually(lambda: eye.cancelled == 1 and eye.running == 0)
            await eventually(lambda: fleet.outcomes() == ["OUTCOME_CANCELLED"])


PART = "messages[0].content[1]"
WRONG: list[tuple[dict[str, Any], str, str | None]] = [
    (asking("?", shows("data:image/png;base64,@@@@")), PART, "invalid_base64"),
    (asking("?", shows("data:image/png;base64,QUJ")), PART, "invalid_base64"),
    (asking("?", shows("data:image/png;base64,QQ==QUJD")), PART, "invalid_base64"),
    (asking("?", shows("data:image/png;base64,ñandú")), PART, "invalid_base64"),
    (asking("?", shows("data:image/png;base64,")), PART, "invalid_image"),
    (asking("?", shows("data:image/png,abc")), PART, "invalid_image_url"),
    (asking("?", shows("data:text/html;base64,QUJD")), PART, "invalid_image_url"),
    (asking("?", shows(f"data:image/png;{'x=y;' * 100_000}base64,QUJD")), PART, "invalid_image_url"),
    (asking("?", shows("http://example.com/cat.png")), PART, "invalid_image_url"),
    (asking("?", shows("file:///etc/passwd")), PART, "invalid_image_url"),
    (asking("?", shows("QUJD")), PART, "invalid_image_url"),
    (asking("?", shows("")), f"{PART}.image_url.url", "invalid_value"),
    (asking("?", shows(data_url(b"x"), detail="sharp")), f"{PART}.image_url.detail", "invalid_value"),
    (asking("?", {"type": "image_url"}), f"{PART}.image_url", None),
    (asking("?", {"type": "image_url", "image_url": data_url(b"x")}), f"{PART}.image_url", "invalid_value"),
    (asking("?", {"type": "input_audio", "input_audio": {}}), PART, "unsupported_content"),
    (asking(*[picture()] * 17), "messages[0].content[16]", "too_many_images"),
    (
        {"model": SEES, "messages": [turn("?"), {"role": "assistant", "content": [shows(data_url(b"x"))]}]},
        "messages[1].content[0]",
        None,
    ),
    (asking("?", picture(), tools=[{"type": "function", "function": {"name": "f"}}]), "tools", "unsupported_value"),
]


class TestWrongRequests:
    async def test_each_names_its_field(self, fleet: VisionFleet) -> None:
        for body, param, code in WRONG:
            assert error_of(await fleet.client.post(URL, json=body)) == (param, code), str(body)[:200]
        assert not fleet.scheduler.tickets

    async def test_a_model_that_cannot_see(self, fleet: VisionFleet) -> None:
        response = await fleet.ask("?", picture(), model=MODEL)
        assert error_of(response) == (PART, "unsupported_content")
        assert response.json()["error"]["message"] == f"The model '{MODEL}' cannot see pictures. These can: {SEES}."
        assert not fleet.scheduler.tickets

    async def test_a_model_that_does_not_exist(self, fleet: VisionFleet) -> None:
        assert error_of(await fleet.ask("?", picture(), model="nobody"), 404) == ("model", "model_not_found")

    async def test_what_the_replica_finds_wrong(self, fleet: VisionFleet) -> None:
        fleet.eyes[0].script = failing(NO_PICTURE)
        assert error_of(await fleet.ask("?", picture())) == (PART, "invalid_image")

    async def test_too_large(self) -> None:
        async with vision_fleet(picture_limit_bytes=10_000, pictures_limit_bytes=12_000) as fleet:
            response = await fleet.ask("?", picture(size_bytes=10_001))
            assert error_of(response, 413) == (PART, "image_too_large")
            response = await fleet.ask(picture("a", 9_000), picture("b", 9_000))
            assert error_of(response, 413)[1] == "image_too_large"
            assert "12000 bytes together" in response.json()["error"]["message"]
            assert (await fleet.ask("?", picture(size_bytes=10_000))).status_code == 200

    async def test_how_many(self) -> None:
        async with vision_fleet(picture_limit=1) as fleet:
            assert error_of(await fleet.ask("?", picture(), picture())) == ("messages[0].content[2]", "too_many_images")

    async def test_bodies_may_be_larger_by_their_pictures(self) -> None:
        async with vision_fleet(body_limit_bytes=100_000) as fleet:
            assert (await fleet.ask("?", picture(size_bytes=1_000_000))).status_code == 200
            assert (await fleet.client.get("/v1/models")).status_code == 200

    async def test_all_bodies_together_are_bounded(self) -> None:
        async with vision_fleet(bodies_limit_bytes=100_000) as fleet:
            assert error_of(await fleet.ask("?", picture(size_bytes=200_000)), 503)[1] == "overloaded"
            assert (await fleet.ask("?", picture(size_bytes=1_000))).status_code == 200


async def test_the_list_of_models_tells_who_sees(fleet: VisionFleet) -> None:
    models = {model["id"]: model for model in (await fleet.client.get("/v1/models")).json()["data"]}
    assert (models[SEES]["modality"], models[SEES]["capabilities"]) == ("vision", ["chat", "image_input"])
    assert models[MODEL]["modality"] == "chat"


class TestTheOriginalEndpoint:
    def body(self, **fields: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": "What is this?"}]
        image = b64encode(picture()).decode()
        return {"model": SEES, "messages": messages, "image": image, "mime_type": "png", **fields}

    async def test_an_answer(self, fleet: VisionFleet) -> None:
        response = await fleet.client.post(ORIGINAL, json=self.body(priority="2", n_threads=4))
        assert response.headers["x-trenza-ignored-fields"] == "n_threads"
        assert response.json() == {"role": "assistant", "content": "I see [1000]"}
        [seen] = fleet.eyes[0].seen
        assert seen.pictures == [picture()]
        assert seen.conversation.options.max_tokens == 350
        assert [part.WhichOneof("part") for part in seen.conversation.messages[0].content] == ["image", "text"]
        assert fleet.scheduler.tickets[0].priority == 3

    async def test_the_picture_goes_with_the_first_thing_said(self, fleet: VisionFleet) -> None:
        messages = [
            {"role": "user", "content": "What is this?"},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "Sure?"},
        ]
        body = self.body(messages=messages, image=data_url(picture()), max_tokens=400)
        assert (await fleet.client.post(ORIGINAL, json=body)).status_code == 200
        [seen] = fleet.eyes[0].seen
        assert [len(message.content) for message in seen.conversation.messages] == [2, 1, 1]
        assert seen.conversation.options.max_tokens == 400

    async def test_errors_are_sentences(self, fleet: VisionFleet) -> None:
        cases = [
            (self.body(model=""), "Model needs to be picked"),
            (self.body(messages=[]), "No messages sent"),
            (self.body(model="../../etc"), "The model does not exist in the server"),
            (self.body(model=MODEL), f"The model '{MODEL}' cannot see pictures. These can: {SEES}."),
            (self.body(image="@@@"), "The picture is not valid base64."),
            (self.body(priority=9), "Invalid value for 'priority': Input should be less than or equal to 2."),
            (self.body(messages=[{"role": "assistant", "content": "x"}]), "The user says nothing about the picture."),
        ]
        for body, message in cases:
            response = await fleet.client.post(ORIGINAL, json=body)
            assert (response.status_code, response.text) == (400, message)
            assert response.headers["content-type"].startswith("text/plain")
        fleet.eyes[0].script = failing(CRASH, after=1)
        assert (await fleet.client.post(ORIGINAL, json=self.body())).status_code == 503


async def test_the_examples_in_the_documentation_work() -> None:
    async with vision_fleet() as fleet:
        fleet.eyes[0].script = describes
        document = (await fleet.client.get("/openapi.json")).json()
        asked = 0
        for path in (URL, ORIGINAL):
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            assert content["schema"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]
            for example in content["examples"].values():
                assert (await fleet.client.post(path, json=example["value"])).status_code == 200
                asked += example["value"]["model"] == SEES
        assert asked == len(fleet.eyes[0].seen) >= 3
        assert all(seen.pictures[0].startswith(b"\x89PNG") for seen in fleet.eyes[0].seen)
