"""Drawing when something goes wrong: replicas that fail or break the contract, clients that leave, too much at once."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fleet_fakes import eventually
from images_fakes import (
    CRASH,
    DRAWS,
    Asked,
    FakeImagesReplica,
    ImagesFleet,
    draws,
    error_of,
    events_of,
    failing,
    images_fleet,
    large,
    picture,
    pieces,
    silent,
    summary,
)
from scheduler_fakes import waiting
from trenza.images.v1 import images_pb2

MIB = 2**20


@pytest.fixture
async def images() -> AsyncIterator[ImagesFleet]:
    async with images_fleet() as running:
        yield running


class TestReplicas:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_failure_before_the_first_message_is_tried_elsewhere(self, stream: bool) -> None:
        async with images_fleet(FakeImagesReplica("images-0", failing(CRASH)), FakeImagesReplica("images-1")) as images:
            images.scheduler.leases["taken"] = "images-1"
            response = await images.generate(stream=stream)
            assert response.status_code == 200
            assert len(images.replicas[1].asked) == 1
            await eventually(lambda: images.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])

    async def test_an_upload_is_sent_again(self) -> None:
        content = bytes(range(256)) * 8192
        async with images_fleet(FakeImagesReplica("images-0", failing(CRASH)), FakeImagesReplica("images-1")) as images:
            images.scheduler.leases["taken"] = "images-1"
            files = [("image", ("a.png", content)), ("mask", ("m.png", b"mask"))]
            assert (await images.edit(files)).status_code == 200
            [asked] = images.replicas[1].asked
            assert [upload.content for upload in asked.uploads] == [content, b"mask"]
            assert asked.context.lease_id == "lease-2"

    async def test_a_failure_in_the_middle(self, images: ImagesFleet) -> None:
        images.replicas[0].script = failing(CRASH, after=13)
        response = await images.generate(stream=True, partial_images=1)
        assert response.status_code == 200
        events = events_of(response.text)
        assert events[0][0] == "image_generation.partial_image"
        assert events[-1] == ("", {"error": {**events[-1][1]["error"], "code": "engine_crashed"}})
        images.replicas[0].script = failing(CRASH, after=5)
        assert error_of(await images.generate(), 503) == (None, "engine_crashed")
        assert len(images.replicas[0].asked) == 2

    async def test_a_replica_that_dies(self) -> None:
        async with images_fleet(FakeImagesReplica("images-0", silent)) as images:
            asking = asyncio.ensure_future(images.generate())
            await eventually(lambda: images.replicas[0].running)
            await images.replicas[0].die()
            assert error_of(await asking, 503) == (None, "replica_unreachable")

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("left_out", ["summary", "picture", "last piece"])
    async def test_an_answer_that_is_not_complete(self, images: ImagesFleet, stream: bool, left_out: str) -> None:
        async def cut(answer: type, asked: Asked) -> AsyncIterator[Any]:
            if left_out != "picture":
                found = pieces(answer, picture(), 0)
                for message in found[:-1] if left_out == "last piece" else found:
                    yield message
            if left_out != "summary":
                yield summary(answer, asked)

        images.replicas[0].script = cut
        assert error_of(await images.generate(stream=stream), 502) == (None, "bad_answer")

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("again", [0, 1])
    async def test_pictures_that_nobody_asked_for(self, images: ImagesFleet, stream: bool, again: int) -> None:
        async def generous(answer: type, asked: Asked) -> AsyncIterator[Any]:
            for message in (*pieces(answer, picture(), 0), *pieces(answer, picture(), again)):
                yield message
            yield summary(answer, asked)

        images.replicas[0].script = generous
        assert error_of(await images.generate(stream=stream), 502) == (None, "bad_answer")

    async def test_too_many_sketches(self, images: ImagesFleet) -> None:
        async def keen(answer: type, asked: Asked) -> AsyncIterator[Any]:
            for message in pieces(answer, picture(0, 3), 0, 3):
                yield message
            yield summary(answer, asked)

        images.replicas[0].script = keen
        assert error_of(await images.generate(stream=True, partial_images=3), 502) == (None, "bad_answer")


class TestLimits:
    async def test_uploads_together(self) -> None:
        async with images_fleet(image_limit_bytes=MIB) as images:
            half = ("a.png", b"x" * (MIB // 2))
            assert (await images.edit([("image", half), ("mask", half)])).status_code == 200
            response = await images.edit([("image", half), ("mask", ("m.png", b"x" * (MIB // 2 + 1)))])
            assert error_of(response, 413) == ("image", "upload_too_large")
            assert (await images.vary([("image", ("a.png", b"x" * (MIB + 1)))])).status_code == 413
            assert len(images.replicas[0].asked) == 1

    async def test_an_answer_that_is_too_large(self) -> None:
        async with images_fleet(answer_limit_bytes=MIB) as images:
            images.replicas[0].script = large(MIB // 2)
            assert (await images.generate(n=2)).status_code == 200
            assert error_of(await images.generate(n=3), 502) == (None, "answer_too_large")
            assert (await images.generate(n=3, response_format="url")).status_code == 502
            await eventually(lambda: not images.scheduler.leases)
            assert (await images.generate(n=10, stream=True)).text.count("event: image_generation.completed") == 10

    async def test_all_answers_together(self) -> None:
        go_on = asyncio.Event()

        async def slow(answer: type, asked: Asked) -> AsyncIterator[Any]:
            for message in pieces(answer, picture(size_bytes=MIB), 0):
                yield message
            await go_on.wait()
            yield summary(answer, asked)

        async with images_fleet(answers_limit_bytes=MIB * 3 // 2) as images:
            images.replicas[0].script = slow
            held = images.gateway._answers
            first = asyncio.ensure_future(images.generate())
            await eventually(lambda: held.held_bytes == MIB)
            refused = await images.generate()
            assert error_of(refused, 503) == (None, "overloaded")
            assert refused.headers["retry-after"]
            go_on.set()
            assert (await first).status_code == 200
            await eventually(lambda: held.held_bytes == 0)
            assert (await images.generate(stream=True)).status_code == 200
            await eventually(lambda: held.held_bytes == 0)

    async def test_ten_large_pictures_do_not_stop_the_gateway(self, images: ImagesFleet) -> None:
        images.replicas[0].script = large(3 * MIB)
        asking = asyncio.ensure_future(images.generate(n=10))
        waits = []
        while not asking.done():
            began_at = asyncio.get_running_loop().time()
            assert (await images.client.get("/healthz")).status_code == 200
            waits.append(asyncio.get_running_loop().time() - began_at)
        data = (await asking).json()["data"]
        assert [b64decode(item["b64_json"]) for item in data] == [
            picture(index, size_bytes=3 * MIB) for index in range(10)
        ]
        assert len(waits) > 3


class TestClientsThatLeave:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_while_it_is_drawn(self, images: ImagesFleet, stream: bool) -> None:
        images.replicas[0].script = silent
        asking = asyncio.ensure_future(images.generate(stream=stream))
        await eventually(lambda: images.replicas[0].running)
        asking.cancel()
        await eventually(lambda: images.replicas[0].cancelled == 1)
        await eventually(lambda: images.outcomes() == ["OUTCOME_CANCELLED"])

    async def test_between_two_events(self, images: ImagesFleet) -> None:
        async def half(answer: type, asked: Asked) -> AsyncIterator[Any]:
            for message in pieces(answer, picture(0, 0), 0, 0):
                yield message
            await asyncio.sleep(3600)
            yield summary(answer, asked)

        images.replicas[0].script = half
        body = {"model": DRAWS, "prompt": "x", "stream": True, "partial_images": 1}
        async with images.client.stream("POST", "/v1/images/generations", json=body) as response:
            assert response.status_code == 200
            assert "partial_image" in await anext(response.aiter_lines())
        await eventually(lambda: images.replicas[0].cancelled == 1)

    async def test_in_the_queue(self, images: ImagesFleet) -> None:
        images.scheduler.policy = waiting
        asking = asyncio.ensure_future(images.edit())
        await eventually(lambda: images.scheduler.tickets)
        asking.cancel()
        await eventually(lambda: images.scheduler.cancellations)
        assert not images.replicas[0].asked

    async def test_while_a_large_answer_is_sent(self, images: ImagesFleet) -> None:
        images.replicas[0].script = large(3 * MIB)
        held = images.gateway._answers
        body = {"model": DRAWS, "prompt": "x", "n": 5}
        async with images.client.stream("POST", "/v1/images/generations", json=body) as response:
            assert response.status_code == 200
            assert held.held_bytes == 15 * MIB
        await eventually(lambda: held.held_bytes == 0)


async def test_a_stream_is_kept_alive_while_it_waits() -> None:
    async with images_fleet(silence_s=0.1) as images:
        images.scheduler.policy = waiting
        body = {"model": DRAWS, "prompt": "x", "stream": True}
        async with images.client.stream("POST", "/v1/images/generations", json=body) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(2)] == [": waiting", ""]
            grant = images.scheduler.grant(images.scheduler.tickets[0])
            assert grant is not None
            images.scheduler.send(grant)
            rest = [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data")]
    assert rest[-1]["type"] == "image_generation.completed"


async def test_a_deadline() -> None:
    async with images_fleet(FakeImagesReplica("images-0", silent), request_s=0.5) as images:
        assert error_of(await images.generate(), 504) == (None, "timeout")
        await eventually(lambda: images.replicas[0].cancelled == 1)


async def test_keys_are_needed(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"me:{sha256(b'tz-secret').hexdigest()}\n")
    async with images_fleet(api_keys_file=keys) as images:
        assert error_of(await images.generate(), 401) == (None, "invalid_api_key")
        images.client.headers["authorization"] = "Bearer tz-secret"
        assert (await images.generate()).status_code == 200
        assert images.replicas[0].asked[0].context.tenant == "me"


async def test_what_is_counted(images: ImagesFleet) -> None:
    async def pictures() -> float:
        text = (await images.client.get("/metrics")).text
        lines = [
            line for line in text.splitlines() if line.startswith(f'trenza_gateway_pictures_total{{model="{DRAWS}"}}')
        ]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = await pictures()
    await images.generate(n=3, size="512x512")
    assert await pictures() == before + 3
    await eventually(lambda: [release.units_used for release in images.scheduler.releases] == [3 * 512])
    assert [ticket.size_estimate for ticket in images.scheduler.tickets] == [3 * 512]


async def test_many_at_once(images: ImagesFleet) -> None:
    images.replicas[0].script = draws
    answers = await asyncio.gather(*(images.edit(n="2", seed=str(number)) for number in range(24)))
    assert [answer.json()["data"][0]["seed"] for answer in answers] == list(range(24))
    await eventually(lambda: not images.scheduler.leases)
    assert images.replicas[0].asked[0].uploads[0].role == images_pb2.IMAGE_ROLE_SOURCE
