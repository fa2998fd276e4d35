"""Pictures over HTTP: what answers look like, what a request may say, and what the replica is asked."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from images_fakes import (
    BAD_SIZE,
    DRAWS,
    FakeImagesReplica,
    ImagesFleet,
    error_of,
    events_of,
    failing,
    images_fleet,
    large,
    picture,
)
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2


@pytest.fixture
async def images() -> AsyncIterator[ImagesFleet]:
    async with images_fleet() as running:
        yield running


class TestGenerations:
    async def test_the_answer(self, images: ImagesFleet) -> None:
        response = await images.generate("a red circle", seed=7, size="128x96")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
        data = answer.pop("data")
        assert answer.pop("created") > 1_700_000_000
        assert answer == {
            "background": "opaque",
            "output_format": "png",
            "quality": "medium",
            "size": "128x96",
            "usage": {
                "input_tokens": 3,
                "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"text_tokens": 0, "image_tokens": 0},
                "total_tokens": 3,
            },
        }
        assert [set(item) for item in data] == [{"b64_json", "seed"}]
        assert b64decode(data[0]["b64_json"], validate=True) == picture()
        assert data[0]["seed"] == 7
        assert images.outcomes() == ["OUTCOME_COMPLETED"]

    async def test_several_come_in_order(self, images: ImagesFleet) -> None:
        data = (await images.generate(n=10)).json()["data"]
        assert [b64decode(item["b64_json"]) for item in data] == [picture(index) for index in range(10)]
        assert [item["seed"] for item in data] == list(range(1000, 1010))

    @pytest.mark.parametrize("size_bytes", [1, 2, 3, 299, 300, 301])
    async def test_pieces_of_any_size(self, images: ImagesFleet, size_bytes: int) -> None:
        images.replicas[0].script = large(size_bytes)
        data = (await images.generate()).json()["data"]
        assert b64decode(data[0]["b64_json"], validate=True) == picture(size_bytes=size_bytes)

    async def test_a_prompt_that_is_too_long_for_the_model(self, images: ImagesFleet) -> None:
        prompt = "a red circle " * 4000
        answer = (await images.generate(prompt)).json()
        assert answer["truncated_prompt"] == prompt[100:]

    async def test_what_the_replica_is_asked(self, images: ImagesFleet) -> None:
        fields = {
            "n": 2,
            "size": "640x480",
            "quality": "hd",
            "background": "transparent",
            "output_format": "webp",
            "output_compression": 30,
            "seed": -5,
            "negative_prompt": "blue",
            "steps": 4,
            "guidance_scale": 0,
            "priority": 0,
        }
        response = await images.generate("a star", **fields)
        assert "x-trenza-ignored-fields" not in response.headers
        asked = images.replicas[0].asked[0]
        assert asked.prompt == "a star"
        assert asked.context.priority == common_pb2.PRIORITY_CLASS_URGENT
        assert asked.options == images_pb2.DrawingOptions(
            count=2,
            width=640,
            height=480,
            quality=images_pb2.QUALITY_HIGH,
            background=images_pb2.BACKGROUND_TRANSPARENT,
            format=images_pb2.IMAGE_FORMAT_WEBP,
            compression=30,
            seed=-5,
            negative_prompt="blue",
            steps=4,
            guidance_scale=0,
        )

    async def test_what_is_left_to_the_model(self, images: ImagesFleet) -> None:
        for fields in ({}, {"size": "auto", "quality": "auto", "n": None, "seed": None, "stream": None}):
            await images.generate(**fields)
            assert images.replicas[0].asked[-1].options == images_pb2.DrawingOptions(
                count=1,
                quality=images_pb2.QUALITY_AUTO,
                background=images_pb2.BACKGROUND_AUTO,
                format=images_pb2.IMAGE_FORMAT_PNG,
            )

    async def test_ids_and_priority_from_the_headers(self, images: ImagesFleet) -> None:
        headers = {"x-request-id": "mine", "x-priority": "2"}
        response = await images.client.post(
            "/v1/images/generations", json={"model": DRAWS, "prompt": "x"}, headers=headers
        )
        assert response.headers["x-request-id"] == "mine"
        assert images.scheduler.tickets[0].priority == common_pb2.PRIORITY_CLASS_BACKGROUND
        assert images.replicas[0].metadata[0]["x-request-id"].startswith("mine.")

    @pytest.mark.parametrize("body", [{}, {"model": None}, {"model": ""}])
    async def test_without_a_model(self, images: ImagesFleet, body: dict[str, Any]) -> None:
        response = await images.client.post("/v1/images/generations", json={"prompt": "x", **body})
        assert response.status_code == 200
        assert images.replicas[0].asked[0].context.model == DRAWS


class TestFields:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *[("n", value) for value in (0, -1, 11, "2", 1.5, True)],
            *[
                ("size", value)
                for value in ("100000x100000", "0x0", "512", "512X512", "x", "-1x5", 512, "٣x٣", "9" * 400)
            ],
            *[("prompt", value) for value in ("", "   ", None, 5, ["a"], "x" * 262_145)],
            *[("quality", value) for value in ("best", "", 1)],
            *[("background", value) for value in ("pink", True)],
            *[("output_format", value) for value in ("gif", "PNG", "svg")],
            *[("output_compression", value) for value in (-1, 101, "50", 50)],
            *[("response_format", value) for value in ("png", "URL")],
            *[("partial_images", value) for value in (-1, 4, "1")],
            *[("stream", value) for value in ("true", 1)],
            *[("seed", value) for value in (2**63, "7", 1.5)],
            *[("steps", value) for value in (0, -1, 100_000, "4")],
            *[("guidance_scale", value) for value in (-0.5, 1000, "0")],
            *[("negative_prompt", value) for value in (5, ["a"])],
            *[("model", value) for value in (5, ["a"])],
            *[("priority", value) for value in (3, "0")],
            *[("style", value) for value in ("natural", 5)],
            *[("input_fidelity", "high"), ("complexity", "low"), ("svg", {"model": "x"}), ("frame_count", 4)],
        ],
    )
    async def test_bad_ones_are_named(self, images: ImagesFleet, field: str, value: Any) -> None:
        response = await images.generate(**{"prompt": "a star", **{field: value}})
        param, _ = error_of(response)
        assert param == field
        assert images.replicas[0].asked == []

    async def test_ones_that_contradict_one_another(self, images: ImagesFleet) -> None:
        assert error_of(await images.generate(background="transparent", output_format="jpeg"))[0] == "background"
        assert error_of(await images.generate(stream=True, response_format="url"))[0] == "response_format"

    async def test_a_body_that_is_no_json(self, images: ImagesFleet) -> None:
        response = await images.client.post("/v1/images/generations", content=b"{")
        assert error_of(response) == (None, "invalid_json")

    async def test_harmless_and_unknown_ones(self, images: ImagesFleet) -> None:
        harmless = {
            "user": "me",
            "moderation": "low",
            "style": "vivid",
            "safety_identifier": "x",
            "input_fidelity": "low",
        }
        response = await images.generate(**harmless)
        assert response.status_code == 200
        assert "x-trenza-ignored-fields" not in response.headers
        response = await images.generate(partial_images=2, sampler="euler")
        assert response.headers["x-trenza-ignored-fields"] == "sampler, partial_images"
        assert images.replicas[0].asked[-1].options.partial_images == 0

    async def test_an_unknown_model(self, images: ImagesFleet) -> None:
        assert error_of(await images.generate(model="dall-e-3"), 404) == ("model", "model_not_found")

    async def test_a_size_that_the_model_refuses(self, images: ImagesFleet) -> None:
        images.replicas[0].script = failing(BAD_SIZE)
        for stream in (False, True):
            assert error_of(await images.generate(size="7x7", stream=stream))[0] == "size"

    async def test_models_that_cannot_edit(self) -> None:
        replica = FakeImagesReplica("images-0")
        replica.capabilities = [common_pb2.CAPABILITY_IMAGE_GENERATION]
        async with images_fleet(replica) as images:
            assert error_of(await images.edit()) == ("model", "unsupported_value")
            assert error_of(await images.vary(model="")) == ("model", "missing_required_parameter")


class TestStreams:
    async def test_one_picture(self, images: ImagesFleet) -> None:
        response = await images.generate(stream=True, partial_images=2, seed=5, size="64x32")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response.text)
        assert [name for name, _ in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        assert all(data["type"] == name for name, data in events)
        assert [data.get("partial_image_index") for _, data in events] == [0, 1, None]
        contents = [b64decode(data["b64_json"], validate=True) for _, data in events]
        assert contents == [picture(0, 0), picture(0, 1), picture(0)]
        _, last = events[-1]
        assert {"created_at", "background", "output_format", "quality", "size", "usage"} < set(last)
        assert (last["size"], last["quality"], last["seed"]) == ("64x32", "medium", 5)
        assert last["usage"]["input_tokens"] == 3
        assert "[DONE]" not in response.text

    async def test_several_pictures(self, images: ImagesFleet) -> None:
        events = events_of((await images.generate(stream=True, n=3, partial_images=1)).text)
        finished = [data for name, data in events if name == "image_generation.completed"]
        assert [data["index"] for data in finished] == [2, 1, 0]
        assert [b64decode(data["b64_json"]) for data in finished] == [picture(index) for index in (2, 1, 0)]
        assert sum(data["usage"]["total_tokens"] for data in finished) == 3
        assert len(events) == 6

    async def test_no_sketches_unless_asked_for(self, images: ImagesFleet) -> None:
        events = events_of((await images.generate("x " * 100, stream=True)).text)
        assert [name for name, _ in events] == ["image_generation.completed"]
        assert events[0][1]["truncated_prompt"] == ("x " * 100)[100:]

    async def test_edits(self, images: ImagesFleet) -> None:
        events = events_of((await images.edit(stream="true", partial_images="1")).text)
        assert [name for name, _ in events] == ["image_edit.partial_image", "image_edit.completed"]

    async def test_variations_are_not_streamed(self, images: ImagesFleet) -> None:
        assert error_of(await images.vary(stream="true")) == ("stream", "unsupported_value")
        assert (await images.vary(stream="false")).status_code == 200


class TestUploads:
    async def test_an_edit(self, images: ImagesFleet) -> None:
        content = picture(size_bytes=1_300_000)
        response = await images.edit({"image": ("../a.png", content, "image/png")}, strength="0.25", n="2", steps="3")
        assert response.status_code == 200
        assert [b64decode(item["b64_json"]) for item in response.json()["data"]] == [picture(0), picture(1)]
        asked = images.replicas[0].asked[0]
        assert (asked.prompt, asked.options.strength, asked.options.count) == ("a blue star", 0.25, 2)
        [upload] = asked.uploads
        assert upload.content == content
        assert upload.role == images_pb2.IMAGE_ROLE_SOURCE
        assert (upload.media.file_name, upload.media.media_type) == ("a.png", "image/png")
        assert upload.media.size_bytes == len(content)

    async def test_several_pictures_and_a_mask(self, images: ImagesFleet) -> None:
        files = [
            ("mask", ("m.png", b"mask")),
            *[("image[]", (f"{number}.png", picture(number))) for number in range(16)],
        ]
        assert (await images.edit(files)).status_code == 200
        uploads = images.replicas[0].asked[0].uploads
        assert [upload.content for upload in uploads] == [*[picture(number) for number in range(16)], b"mask"]
        assert [upload.role for upload in uploads[-2:]] == [images_pb2.IMAGE_ROLE_SOURCE, images_pb2.IMAGE_ROLE_MASK]

    async def test_a_variation(self, images: ImagesFleet) -> None:
        response = await images.vary(n="2", size="128x128", seed="3", user="me")
        assert [item["seed"] for item in response.json()["data"]] == [3, 4]
        asked = images.replicas[0].asked[0]
        assert (asked.options.width, asked.options.seed) == (128, 3)
        assert [upload.content for upload in asked.uploads] == [picture()]

    @pytest.mark.parametrize(
        ("files", "param", "code"),
        [
            ([("other", ("a.png", b"x"))], "image", "missing_required_parameter"),
            ([("image", ("a.png", b""))], "image", "invalid_value"),
            ([("image", (None, "text"))], "image", "invalid_value"),
            ([("image", ("a.png", b"x")), ("mask", (None, "text"))], "mask", "invalid_value"),
            ([("image", ("a.png", b"x")), ("mask", ("m.png", b""))], "mask", "invalid_value"),
            ([("image", ("a.png", b"x")), *[("mask", ("m.png", b"m"))] * 2], "mask", "invalid_value"),
            ([("image", ("a.png", b"x")), ("markup", ("m.png", b"m"))], "markup", "unsupported_value"),
            ([("image[]", ("a.png", b"x"))] * 17, "image", "invalid_value"),
            ([("image[]", ("a.png", b"x"))] * 33, "image", None),
        ],
    )
    async def test_bad_files(self, images: ImagesFleet, files: Any, param: str, code: str | None) -> None:
        assert error_of(await images.edit(files)) == (param, code)
        assert images.replicas[0].asked == []

    async def test_variations_take_one_picture(self, images: ImagesFleet) -> None:
        two = [("image", ("a.png", b"x")), ("image", ("b.png", b"x"))]
        assert error_of(await images.vary(two)) == ("image", "invalid_value")
        response = await images.vary([("image", ("a.png", b"x")), ("mask", ("m.png", b"m"))], prompt="a star")
        assert response.headers["x-trenza-ignored-fields"] == "prompt, mask"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *[("n", "0"), ("n", "eleven"), ("size", "7"), ("prompt", ""), ("strength", "2"), ("strength", "-1")],
            *[("stream", "maybe"), ("steps", "0"), ("seed", "x"), ("input_fidelity", "high"), ("background", "x")],
        ],
    )
    async def test_bad_fields_are_named(self, images: ImagesFleet, field: str, value: str) -> None:
        assert error_of(await images.edit(**{field: value}))[0] == field

    async def test_other_kinds_of_body(self, images: ImagesFleet) -> None:
        for path in ("edits", "variations"):
            response = await images.client.post(f"/v1/images/{path}", json={"model": DRAWS, "prompt": "x"})
            assert error_of(response) == ("image", None)

    async def test_garbage(self, images: ImagesFleet) -> None:
        headers = {"content-type": "multipart/form-data; boundary=edge"}
        for body in (
            b"",
            b"garbage",
            b"--edge\r\n",
            b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n",
        ):
            response = await images.client.post("/v1/images/edits", content=body, headers=headers)
            assert response.status_code == 400, body


async def test_the_examples_in_the_documentation_work(images: ImagesFleet) -> None:
    document = (await images.client.get("/openapi.json")).json()
    schemas, tried = document["components"]["schemas"], 0
    for path, kind in (
        ("generations", "application/json"),
        ("edits", "multipart/form-data"),
        ("variations", "multipart/form-data"),
    ):
        content = document["paths"][f"/v1/images/{path}"]["post"]["requestBody"]["content"][kind]
        schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        assert ("image" in schema["properties"]) == (path != "generations")
        for example in content["examples"].values():
            assert set(example["value"]) <= set(schema["properties"])
            if path == "generations":
                response = await images.generate(**example["value"])
            else:
                response = await (images.edit if path == "edits" else images.vary)(**example["value"])
            assert response.status_code == 200, example
            assert "x-trenza-ignored-fields" not in response.headers
            tried += 1
    assert tried == 7
