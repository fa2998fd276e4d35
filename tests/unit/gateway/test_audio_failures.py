"""Hearing when something goes wrong: uploads that are too large or no uploads, replicas that fail, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from audio_fakes import (
    CRASH,
    HEARS,
    NOT_SOUND,
    SOUND,
    AudioFleet,
    FakeAudioReplica,
    Heard,
    audio_fleet,
    hearing_fails,
    read_all,
    segments,
)
from fleet_fakes import eventually
from scheduler_fakes import waiting
from trenza.scheduler.v1 import scheduler_pb2
from trenza_gateway.uploads import CHUNK_BYTES, FRAMING_BYTES, FormFile

URL = "/v1/audio/transcriptions"
MIB = 2**20


@pytest.fixture
async def audio() -> AsyncIterator[AudioFleet]:
    async with audio_fleet() as running:
        yield running


async def silent(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
    """Takes the upload and never says anything."""
    await read_all(upload, requests)
    await asyncio.sleep(3600)
    yield answer()


def error_of(response: httpx.Response, status: int = 400) -> tuple[str | None, str | None]:
    """The field and the code of an error with that status."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    return error["param"], error["code"]


class TestFiles:
    async def test_none(self, audio: AudioFleet) -> None:
        response = await audio.client.post(URL, data={"model": HEARS}, files={"other": ("a.wav", SOUND)})
        assert error_of(response) == ("file", "missing_required_parameter")

    async def test_one_that_is_no_file(self, audio: AudioFleet) -> None:
        form = {"model": (None, HEARS), "file": (None, "RIFF")}
        assert error_of(await audio.client.post(URL, files=form)) == ("file", "invalid_value")

    async def test_several(self, audio: AudioFleet) -> None:
        two = [("file", ("a.wav", SOUND)), ("file", ("b.wav", SOUND))]
        assert error_of(await audio.client.post(URL, data={"model": HEARS}, files=two)) == ("file", "invalid_value")

    async def test_an_empty_one(self, audio: AudioFleet) -> None:
        assert error_of(await audio.transcribe(b"")) == ("file", "invalid_value")

    async def test_other_kinds_of_body(self, audio: AudioFleet) -> None:
        for body in ({"json": {"model": HEARS}}, {"data": {"model": HEARS}}, {"content": SOUND}):
            assert error_of(await audio.client.post(URL, **body)) == ("file", None)

    async def test_one_more_than_is_wanted_is_named(self, audio: AudioFleet) -> None:
        files = {"file": ("a.wav", SOUND), "cover": ("a.png", b"x")}
        response = await audio.client.post(URL, data={"model": HEARS}, files=files)
        assert response.headers["x-trenza-ignored-fields"] == "cover"

    async def test_fields_after_the_file(self, audio: AudioFleet) -> None:
        form = [("file", ("../up\\a.wav", SOUND)), ("model", (None, HEARS)), ("language", (None, "es"))]
        assert (await audio.client.post(URL, files=form)).status_code == 200
        config = audio.replicas[0].uploads[0].config
        assert (config.language, config.media.file_name) == ("es", "a.wav")

    async def test_what_the_replica_cannot_read(self, audio: AudioFleet) -> None:
        audio.replicas[0].hear = hearing_fails(NOT_SOUND)
        for stream in ("false", "true"):
            response = await audio.transcribe(stream=stream)
            assert error_of(response) == ("file", None)
            assert "no sound" in response.json()["error"]["message"]
        assert len(audio.replicas[0].uploads) == 2


async def in_pieces(*pieces: bytes, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    """A body whose length is not said beforehand."""
    for piece in pieces:
        await asyncio.sleep(pause_s)
        yield piece


def form_of(content: bytes, stream: bool = False) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a form with one file and the model."""
    fields = {"model": HEARS, "stream": str(stream).lower()}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{said}' for name, said in fields.items()]
    file = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    head = "".join(f"--edge\r\n{part}\r\n" for part in parts) + f"--edge\r\n{file}"
    return {"content-type": "multipart/form-data; boundary=edge"}, head.encode() + content + b"\r\n--edge--\r\n"


class TestLimits:
    async def test_the_largest_file(self) -> None:
        async with audio_fleet(audio_limit_bytes=2 * MIB) as audio:
            assert (await audio.transcribe(b"x" * (2 * MIB))).status_code == 200
            upload = audio.replicas[0].uploads[0]
            assert len(upload.sound) == 2 * MIB
            assert max(len(chunk) for chunk in upload.chunks) <= CHUNK_BYTES
            response = await audio.transcribe(b"x" * (2 * MIB + 1))
            assert error_of(response, 413) == ("file", "upload_too_large")
            assert str(2 * MIB) in response.json()["error"]["message"]
            assert len(audio.replicas[0].uploads) == 1

    async def test_a_declared_length_that_is_far_too_large(self) -> None:
        async with audio_fleet(audio_limit_bytes=1024) as audio:
            for _ in range(5):
                response = await audio.transcribe(b"x" * (20 * MIB))
                assert error_of(response, 413) == ("file", "upload_too_large")
            assert (await audio.transcribe(b"x" * 1000)).status_code == 200

    async def test_a_length_that_is_not_declared(self) -> None:
        async with audio_fleet(audio_limit_bytes=1024) as audio:
            headers, body = form_of(b"x" * (FRAMING_BYTES + 2 * MIB))
            pieces = [body[start : start + MIB] for start in range(0, len(body), MIB)]
            response = await audio.client.post(URL, content=in_pieces(*pieces), headers=headers)
            assert error_of(response, 413) == ("file", "upload_too_large")
            headers, body = form_of(b"x" * 1000)
            assert (await audio.client.post(URL, content=in_pieces(body), headers=headers)).status_code == 200

    async def test_slow_uploads(self) -> None:
        async with audio_fleet(upload_read_s=0.3) as audio:
            headers, body = form_of(SOUND)
            slow = in_pieces(body[:100], body[100:], pause_s=1.0)
            response = await audio.client.post(URL, content=slow, headers=headers)
            assert error_of(response, 408) == ("file", "body_timeout")

    async def test_all_uploads_together(self) -> None:
        async with audio_fleet(uploads_limit_bytes=MIB) as audio:
            audio.replicas[0].hear = silent
            running = asyncio.ensure_future(audio.transcribe(b"x" * (MIB * 3 // 4)))
            await eventually(lambda: audio.replicas[0].uploads and audio.replicas[0].uploads[0].complete)
            refused = await audio.transcribe(b"x" * (MIB // 2))
            assert error_of(refused, 503) == (None, "overloaded")
            assert refused.headers["retry-after"]
            running.cancel()
            await eventually(lambda: audio.outcomes() == ["OUTCOME_CANCELLED"])
            audio.replicas[0].hear = hearing_fails(NOT_SOUND)
            assert (await audio.transcribe(b"x" * (MIB // 2))).status_code == 400

    async def test_garbage(self, audio: AudioFleet) -> None:
        headers, body = form_of(SOUND)
        bodies = [
            b"",
            b"--",
            b"no form at all",
            body[:200],
            body.replace(b'name="file"', b"nameless"),
            body.replace(b"--edge", b"--edgy"),
            b"--edge\r\n" + b"x-long: " + b"y" * 10_000 + b"\r\n\r\n",
            b"--edge\r\n" + b"x: y\r\n" * 100,
        ]
        for garbage in bodies:
            response = await audio.client.post(URL, content=garbage, headers=headers)
            assert response.status_code == 400, garbage[:40]
            assert response.json()["error"]["param"] in ("file", "model")
        for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 1000):
            response = await audio.client.post(URL, content=body, headers={"content-type": kind})
            assert response.status_code == 400, kind
        assert (await audio.client.post(URL, content=body, headers=headers)).status_code == 200

    async def test_too_many_parts_and_too_much_in_fields(self, audio: AudioFleet) -> None:
        for form in (
            [("file", (f"{number}.wav", b"x")) for number in range(33)],
            [(f"f{number}", (None, "x")) for number in range(257)],
            [("prompt", (None, "x" * (MIB + 1)))],
            [(f"f{number}", (None, "x" * 10_000)) for number in range(200)],
        ):
            assert (await audio.client.post(URL, files=form)).status_code == 400
        assert not audio.replicas[0].uploads

    async def test_compressed_bodies(self, audio: AudioFleet) -> None:
        headers, body = form_of(SOUND)
        response = await audio.client.post(URL, content=body, headers={**headers, "content-encoding": "gzip"})
        assert response.status_code == 415


class TestReplicas:
    @pytest.mark.parametrize("stream", ["false", "true"])
    @pytest.mark.parametrize("after_chunks", [None, 0, 1])
    async def test_a_failure_before_the_first_message_is_tried_elsewhere(
        self, stream: str, after_chunks: int | None
    ) -> None:
        content = bytes(range(256)) * 8192
        async with audio_fleet(FakeAudioReplica("audio-0"), FakeAudioReplica("audio-1")) as audio:
            audio.replicas[0].hear = hearing_fails(CRASH, after_chunks)
            audio.scheduler.leases["taken"] = "audio-1"
            response = await audio.transcribe(content, stream=stream)
            assert response.status_code == 200
            assert "Hoy es" in response.text
            [upload] = audio.replicas[1].uploads
            assert upload.sound == content
            assert upload.config.context.lease_id == "lease-2"
            await eventually(lambda: audio.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])
            assert list(audio.scheduler.tickets[1].excluded_replica_ids) == ["audio-0"]

    async def test_a_failure_in_the_middle(self, audio: AudioFleet) -> None:
        audio.replicas[0].hear = hearing_fails(CRASH, after_messages=3)
        response = await audio.transcribe(stream="true")
        assert response.status_code == 200
        blocks = [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n") if block]
        assert blocks[0]["type"] == "transcript.text.delta"
        assert blocks[-1]["error"]["code"] == "engine_crashed"
        assert (await audio.transcribe()).status_code == 503
        assert len(audio.replicas[0].uploads) == 2

    async def test_a_replica_that_dies(self) -> None:
        async with audio_fleet(FakeAudioReplica("audio-0"), FakeAudioReplica("audio-1")) as audio:
            audio.replicas[0].hear = silent
            audio.scheduler.leases["taken"] = "audio-1"
            asking = asyncio.ensure_future(audio.transcribe())
            await eventually(lambda: audio.replicas[0].running)
            await audio.replicas[0].die()
            assert (await asking).status_code == 200
            assert audio.replicas[1].uploads[0].sound == SOUND

    @pytest.mark.parametrize("stream", ["false", "true"])
    async def test_a_transcript_without_an_end_is_an_error(self, audio: AudioFleet, stream: str) -> None:
        async def cut(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
            await read_all(upload, requests)
            yield segments(answer)[0]

        audio.replicas[0].hear = cut
        assert error_of(await audio.transcribe(stream=stream), 502) == (None, "bad_answer")

    async def test_a_replica_that_answers_before_it_has_heard_all(self, audio: AudioFleet) -> None:
        async def hasty(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
            for message in segments(answer):
                yield message

        audio.replicas[0].hear = hasty
        for _ in range(3):
            assert (await audio.transcribe(b"x" * (8 * MIB))).status_code == 200

    async def test_an_upload_that_cannot_be_read_again(
        self, audio: AudioFleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(_file: FormFile) -> AsyncIterator[bytes]:
            yield b"one"
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(FormFile, "chunks", broken)
        for stream in ("false", "true"):
            assert error_of(await audio.transcribe(stream=stream), 500) == (None, "internal_error")
        await eventually(lambda: len(audio.scheduler.releases) == 2)
        assert not audio.scheduler.leases
        # How far the replica had come with the calls does not matter: they are over, and it serves others.
        await eventually(lambda: audio.replicas[0].running == 0)
        monkeypatch.undo()
        assert (await audio.transcribe()).status_code == 200

    async def test_nobody_says_anything(self, audio: AudioFleet) -> None:
        async def nothing_said(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
            await read_all(upload, requests)
            first, *_, last = segments(answer)
            last.summary.text = ""
            yield first
            yield last

        audio.replicas[0].hear = nothing_said
        assert (await audio.transcribe()).json()["text"] == ""
        assert (await audio.transcribe(response_format="srt")).text == ""
        assert (await audio.transcribe(response_format="vtt")).text == "WEBVTT\n"
        assert (await audio.transcribe(response_format="verbose_json")).json()["segments"] == []
        assert (await audio.transcribe(stream="true")).text.count("data: ") == 1


class TestClientsThatLeave:
    @pytest.mark.parametrize("stream", ["false", "true"])
    async def test_while_it_is_heard(self, audio: AudioFleet, stream: str) -> None:
        audio.replicas[0].hear = silent
        asking = asyncio.ensure_future(audio.transcribe(stream=stream))
        await eventually(lambda: audio.replicas[0].running)
        asking.cancel()
        await eventually(lambda: audio.replicas[0].cancelled == 1)
        await eventually(lambda: audio.outcomes() == ["OUTCOME_CANCELLED"])

    async def test_while_the_replica_does_not_take_the_upload(self, audio: AudioFleet) -> None:
        async def stalled(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
            await asyncio.sleep(3600)
            yield answer()

        audio.replicas[0].hear = stalled
        asking = asyncio.ensure_future(audio.transcribe(b"x" * (16 * MIB)))
        await eventually(lambda: audio.replicas[0].running)
        asking.cancel()
        await eventually(lambda: audio.replicas[0].cancelled == 1)
        await eventually(lambda: audio.outcomes() == ["OUTCOME_CANCELLED"])

    async def test_in_the_queue(self, audio: AudioFleet) -> None:
        audio.scheduler.policy = waiting
        asking = asyncio.ensure_future(audio.transcribe())
        await eventually(lambda: audio.scheduler.tickets)
        asking.cancel()
        await eventually(lambda: audio.scheduler.cancellations)
        assert not audio.replicas[0].uploads

    async def test_in_the_middle_of_the_upload(self, audio: AudioFleet) -> None:
        headers, body = form_of(SOUND)
        reader, writer = await asyncio.open_connection("127.0.0.1", audio.gateway.http_port)
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: {headers['content-type']}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:500])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        del reader
        assert (await audio.transcribe()).status_code == 200
        await eventually(lambda: len(audio.scheduler.tickets) == 1)


async def test_a_stream_is_kept_alive_while_it_waits() -> None:
    async with audio_fleet(silence_s=0.1) as audio:
        audio.scheduler.policy = waiting
        headers, body = form_of(SOUND, stream=True)
        async with audio.client.stream("POST", URL, content=body, headers=headers) as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(2)] == [": waiting", ""]
            grant = audio.scheduler.grant(audio.scheduler.tickets[0])
            assert grant is not None
            audio.scheduler.send(grant)
            rest = [line async for line in lines if line.startswith("data")]
        assert "transcript.text.done" in rest[-1]


async def test_many_uploads_at_once(audio: AudioFleet) -> None:
    contents = [bytes([number]) * (MIB + number) for number in range(24)]
    answers = await asyncio.gather(*(audio.transcribe(content) for content in contents))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(upload.sound for upload in audio.replicas[0].uploads) == contents
    await eventually(lambda: not audio.scheduler.leases)
    assert {scheduler_pb2.Outcome.Name(r.outcome) for r in audio.scheduler.releases} == {"OUTCOME_COMPLETED"}


async def test_a_stream_is_kept_alive_between_its_events() -> None:
    go_on = asyncio.Event()

    async def patient(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
        await read_all(upload, requests)
        *first, last = segments(answer)
        for message in first:
            yield message
        await go_on.wait()
        yield last

    async with audio_fleet(silence_s=0.2) as audio:
        audio.replicas[0].hear = patient
        headers, body = form_of(SOUND, stream=True)
        async with audio.client.stream("POST", URL, content=body, headers=headers) as response:
            lines = response.aiter_lines()
            seen = [await anext(lines) for _ in range(8)]
            assert [line[:5] for line in seen] == ["data:", "", "data:", "", ": wai", "", ": wai", ""]
            go_on.set()
            rest = [line async for line in lines if line.startswith("data")]
        assert "transcript.text.done" in rest[-1]
