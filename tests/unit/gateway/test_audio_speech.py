"""Speech over HTTP: sound as it is made, as events, and what happens when it breaks off; the list of voices."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from audio_fakes import (
    CRASH,
    HEARS,
    SPEAKS,
    AudioFleet,
    FakeAudioReplica,
    audio_fleet,
    sound,
    speaking_fails,
    speech_body,
)
from fleet_fakes import eventually
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

NO_VOICE = RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, "There are en, es.", {"param": "voice"})


@pytest.fixture
async def audio() -> AsyncIterator[AudioFleet]:
    async with audio_fleet() as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    """The payloads of a stream of events."""
    return [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block]


async def collect(chunks: AsyncIterator[bytes], received: list[bytes]) -> None:
    """Notes what arrives."""
    async for chunk in chunks:
        received.append(chunk)


FORMATS = [
    ("mp3", "audio/mpeg", audio_pb2.AUDIO_FORMAT_MP3),
    ("opus", "audio/opus", audio_pb2.AUDIO_FORMAT_OPUS),
    ("aac", "audio/aac", audio_pb2.AUDIO_FORMAT_AAC),
    ("flac", "audio/flac", audio_pb2.AUDIO_FORMAT_FLAC),
    ("wav", "audio/wav", audio_pb2.AUDIO_FORMAT_WAV),
    ("pcm", "audio/pcm", audio_pb2.AUDIO_FORMAT_PCM),
]


async def test_every_format(audio: AudioFleet) -> None:
    for name, media_type, asked in FORMATS:
        response = await audio.speak(response_format=name)
        assert response.status_code == 200
        assert response.headers["content-type"] == media_type
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.content == b"hellothere"
        assert audio.replicas[0].spoken[-1].format == asked


async def test_what_is_asked_for_by_default(audio: AudioFleet) -> None:
    assert (await audio.speak()).headers["content-type"] == "audio/mpeg"
    spoken = audio.replicas[0].spoken[0]
    assert (spoken.input, spoken.voice, spoken.context.model) == ("hello there", "alloy", SPEAKS)
    assert not {"speed", "temperature", "seed"} & {said.name for said, _ in spoken.ListFields()}
    await eventually(lambda: audio.outcomes() == ["OUTCOME_COMPLETED"])


async def test_every_field_reaches_the_replica(audio: AudioFleet) -> None:
    response = await audio.speak(
        voice={"id": "nova"},
        speed=1.5,
        instructions="Cheerfully.",
        language="ES",
        temperature=0.5,
        seed=7,
        stream_format="audio",
        priority=2,
        loudness=3,
    )
    assert response.headers["x-trenza-ignored-fields"] == "loudness"
    spoken = audio.replicas[0].spoken[0]
    assert (spoken.voice, spoken.speed, spoken.instructions) == ("nova", 1.5, "Cheerfully.")
    assert (spoken.language, spoken.temperature, spoken.seed) == ("es", 0.5, 7)
    assert spoken.context.priority == common_pb2.PRIORITY_CLASS_BACKGROUND
    assert audio.scheduler.tickets[0].size_estimate == len("hello there")


async def test_events(audio: AudioFleet) -> None:
    response = await audio.speak(stream_format="sse", response_format="wav")
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(response.text)
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert [b64decode(delta["audio"]) for delta in deltas] == [b"hello", b"there"]
    assert done == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 3, "output_tokens": 7, "total_tokens": 10, "input_characters": 11, "seconds": 1.5},
    }


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": HEARS}, "model"),
    ({"input": ""}, "input"),
    ({"input": "x" * 4097}, "input"),
    ({"input": ["a"]}, "input"),
    ({"voice": None}, "voice"),
    ({"voice": ""}, "voice"),
    ({"voice": 7}, "voice"),
    ({"voice": {"id": 7}}, "voice"),
    ({"voice": {"name": "alloy"}}, "voice"),
    ({"response_format": "midi"}, "response_format"),
    ({"speed": 0.2}, "speed"),
    ({"speed": 4.1}, "speed"),
    ({"speed": "fast"}, "speed"),
    ({"instructions": "x" * 4097}, "instructions"),
    ({"stream_format": "ndjson"}, "stream_format"),
    ({"language": "español"}, "language"),
    ({"temperature": -1}, "temperature"),
    ({"seed": 0.5}, "seed"),
]


async def test_wrong_fields_are_named(audio: AudioFleet) -> None:
    for fields, param in WRONG:
        response = await audio.client.post("/v1/audio/speech", json={**speech_body(), **fields})
        assert response.status_code == 400, fields
        assert response.json()["error"]["param"] == param, fields
    for missing in ("model", "input", "voice"):
        body = {name: value for name, value in speech_body().items() if name != missing}
        error = (await audio.client.post("/v1/audio/speech", json=body)).json()["error"]
        assert (error["param"], error["code"]) == (missing, "missing_required_parameter")
    assert (await audio.speak(model="gpt-9")).status_code == 404
    assert (await audio.speak("x" * 4096)).status_code == 200
    assert len(audio.replicas[0].spoken) == 1


async def test_the_first_sound_arrives_before_the_last_is_made(audio: AudioFleet) -> None:
    go_on = asyncio.Event()

    async def patient(_request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        *first, last, summary = sound(b"first", b"last")
        for message in first:
            yield message
        await go_on.wait()
        yield last
        yield summary

    audio.replicas[0].speak = patient
    async with audio.client.stream("POST", "/v1/audio/speech", json=speech_body()) as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"first"
        go_on.set()
        assert b"".join([chunk async for chunk in chunks]) == b"last"


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_what_fails_before_the_first_sound_has_its_status(audio: AudioFleet, stream_format: str) -> None:
    audio.replicas[0].speak = speaking_fails(NO_VOICE)
    response = await audio.speak(stream_format=stream_format)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["param"] == "voice"
    assert "en, es" in response.json()["error"]["message"]
    await eventually(lambda: audio.outcomes() == ["OUTCOME_CLIENT_ERROR"])


async def test_a_failure_before_the_first_message_is_tried_elsewhere() -> None:
    async with audio_fleet(FakeAudioReplica("audio-0"), FakeAudioReplica("audio-1")) as audio:
        audio.replicas[0].speak = speaking_fails(CRASH)
        audio.scheduler.leases["taken"] = "audio-1"
        assert (await audio.speak()).content == b"hellothere"
        await eventually(lambda: audio.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])


async def test_sound_that_breaks_off_does_not_look_complete(audio: AudioFleet) -> None:
    audio.replicas[0].speak = speaking_fails(CRASH, after_chunks=2)
    received: list[bytes] = []
    async with audio.client.stream("POST", "/v1/audio/speech", json=speech_body()) as response:
        assert response.status_code == 200
        chunks = response.aiter_raw()
        with pytest.raises(httpx.RemoteProtocolError):
            await collect(chunks, received)
    assert b"".join(received) == b"lala"
    assert (await audio.client.get("/readyz")).status_code == 200


async def test_events_that_break_off_end_with_an_error(audio: AudioFleet) -> None:
    audio.replicas[0].speak = speaking_fails(CRASH, after_chunks=2)
    *deltas, last = events((await audio.speak(stream_format="sse")).text)
    assert len(deltas) == 2
    assert last["error"]["code"] == "engine_crashed"


async def test_a_replica_that_dies(audio: AudioFleet) -> None:
    async def endless(_request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        while True:
            yield audio_pb2.SpeakResponse(chunk=b"la")
            await asyncio.sleep(0.01)

    audio.replicas[0].speak = endless
    async with audio.client.stream("POST", "/v1/audio/speech", json=speech_body()) as response:
        chunks = response.aiter_raw()
        await anext(chunks)
        await audio.replicas[0].die()
        with pytest.raises(httpx.RemoteProtocolError):
            await collect(chunks, [])
    await eventually(lambda: audio.outcomes() == ["OUTCOME_REPLICA_FAILED"])


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_speech_without_an_end_is_an_error(audio: AudioFleet, stream_format: str) -> None:
    async def cut(_request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        yield sound()[0]

    audio.replicas[0].speak = cut
    response = await audio.speak(stream_format=stream_format)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "bad_answer"


@pytest.mark.parametrize("chunks", [0, 1])
async def test_a_client_that_leaves_cancels_the_call(audio: AudioFleet, chunks: int) -> None:
    async def silent(_request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        for message in sound(*[b"la"] * chunks)[:-1]:
            yield message
        await asyncio.sleep(3600)

    audio.replicas[0].speak = silent
    speaking = asyncio.ensure_future(audio.speak())
    await eventually(lambda: audio.replicas[0].running)
    speaking.cancel()
    await eventually(lambda: audio.replicas[0].cancelled == 1)
    await eventually(lambda: audio.outcomes() == ["OUTCOME_CANCELLED"])


async def test_what_outlasts_the_drain_is_cut_off() -> None:
    async def endless(_request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        while True:
            yield audio_pb2.SpeakResponse(chunk=b"la")
            await asyncio.sleep(0.01)

    async with audio_fleet(drain_s=0.1) as audio:
        audio.replicas[0].speak = endless
        speaking = asyncio.ensure_future(audio.speak())
        await eventually(lambda: audio.replicas[0].running)
        await audio.gateway.drain()
        with pytest.raises(httpx.RemoteProtocolError):
            await speaking
        await eventually(lambda: audio.replicas[0].cancelled == 1)


class TestVoices:
    async def test_of_all_models(self) -> None:
        replicas = [FakeAudioReplica("audio-0", speaks="b"), FakeAudioReplica("audio-1", speaks="a")]
        async with audio_fleet(*replicas) as audio:
            answer = (await audio.client.get("/v1/audio/voices")).json()
            assert answer["object"] == "list"
            assert [(voice["model"], voice["id"]) for voice in answer["data"]] == [
                ("a", "a-en"),
                ("a", "a-es"),
                ("b", "b-en"),
                ("b", "b-es"),
            ]
            assert answer["data"][0] == {
                "id": "a-en",
                "object": "voice",
                "name": "a-en",
                "model": "a",
                "languages": ["en"],
                "aliases": ["alloy"],
                "description": "A voice.",
            }
            ids = {request.context.request_id for replica in replicas for request in replica.asked}
            assert len(ids) == 2
            one = (await audio.client.get("/v1/audio/voices", params={"model": "b", "language": "ES"})).json()
            assert [voice["id"] for voice in one["data"]] == ["b-es"]
            await eventually(lambda: audio.outcomes() == ["OUTCOME_COMPLETED"] * 3)

    async def test_a_model_that_cannot_answer(self) -> None:
        replicas = [FakeAudioReplica("audio-0", speaks="b"), FakeAudioReplica("audio-1", speaks="a")]
        replicas[1].voices_fault = RpcFault(grpc.StatusCode.FAILED_PRECONDITION, Reason.MODEL_LOAD_FAILED, "No file.")
        async with audio_fleet(*replicas) as audio:
            everybody = await audio.client.get("/v1/audio/voices")
            assert {voice["model"] for voice in everybody.json()["data"]} == {"b"}
            assert (await audio.client.get("/v1/audio/voices?model=a")).status_code == 503
            replicas[0].voices_fault = replicas[1].voices_fault
            assert (await audio.client.get("/v1/audio/voices")).status_code == 503

    async def test_wrong_questions(self, audio: AudioFleet) -> None:
        for model, status in (("gpt-9", 404), (HEARS, 400)):
            response = await audio.client.get("/v1/audio/voices", params={"model": model})
            assert response.status_code == status
            assert response.json()["error"]["param"] == "model"
        for language in ("every one of them", "x" * 17, "e"):
            response = await audio.client.get("/v1/audio/voices", params={"language": language})
            assert response.status_code == 400
            assert response.json()["error"]["param"] == "language"
        assert not audio.replicas[0].asked
