"""Transcriptions and translations over HTTP, in every format and with every field."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from audio_fakes import HEARS, SOUND, SPEAKS, AudioFleet, audio_fleet
from fleet_fakes import eventually
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2

TEXT = "Hoy es <lunes> & one --> two."


@pytest.fixture
async def audio() -> AsyncIterator[AudioFleet]:
    async with audio_fleet() as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    """The payloads of a stream of events."""
    blocks = [block for block in text.split("\n\n") if block]
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


async def test_json(audio: AudioFleet) -> None:
    response = await audio.transcribe()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.json() == {"text": TEXT, "usage": {"type": "duration", "seconds": 3603.0}}
    [upload] = audio.replicas[0].uploads
    assert upload.sound == SOUND
    assert upload.config.context.model == HEARS
    assert upload.config.context.lease_id == "lease-1"
    assert upload.config.media == common_pb2.MediaDescription(
        media_type="audio/wav", file_name="hoy.wav", size_bytes=len(SOUND)
    )
    assert not upload.config.HasField("temperature")
    await eventually(lambda: audio.outcomes() == ["OUTCOME_COMPLETED"])
    assert audio.scheduler.tickets[0].modality == common_pb2.MODALITY_AUDIO


async def test_text(audio: AudioFleet) -> None:
    response = await audio.transcribe(response_format="text")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == f"{TEXT}\n"


async def test_srt(audio: AudioFleet) -> None:
    response = await audio.transcribe(response_format="srt")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == (
        "1\n00:00:00,000 --> 00:00:01,250\nHoy es <lunes> &\n\n2\n01:00:01,500 --> 01:00:02,750\none -> two.\n"
    )


async def test_vtt(audio: AudioFleet) -> None:
    response = await audio.transcribe(response_format="vtt")
    assert response.headers["content-type"] == "text/vtt; charset=utf-8"
    assert response.text == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nHoy es &lt;lunes&gt; &amp;\n\n"
        "01:00:01.500 --> 01:00:02.750\none --&gt; two.\n"
    )


async def test_verbose_json(audio: AudioFleet) -> None:
    answer = (await audio.transcribe(response_format="verbose_json")).json()
    assert "words" not in answer
    segments = answer.pop("segments")
    assert answer == {
        "task": "transcribe",
        "language": "spanish",
        "duration": 3603.0,
        "text": TEXT,
        "usage": {"type": "duration", "seconds": 3603.0},
    }
    assert [segment["id"] for segment in segments] == [0, 1]
    assert segments[1] == {
        "id": 1,
        "seek": 360150,
        "start": 3601.5,
        "end": 3602.75,
        "text": " one --> two.",
        "tokens": [50364, 1],
        "temperature": 0.2,
        "avg_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.125,
    }
    assert not audio.replicas[0].uploads[0].config.timestamp_granularities


@pytest.mark.parametrize(
    ("asked", "present"),
    [(["word"], {"words"}), (["segment"], {"segments"}), (["word", "segment"], {"words", "segments"})],
)
async def test_timestamps(audio: AudioFleet, asked: list[str], present: set[str]) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": asked}
    answer = (await audio.transcribe(**fields)).json()
    assert {"words", "segments"} & set(answer) == present
    if "words" in present:
        assert answer["words"][1] == {"word": "two.", "start": 3602.0, "end": 3602.75}
    seen = audio.replicas[0].uploads[0].config.timestamp_granularities
    assert (audio_pb2.TIMESTAMP_GRANULARITY_WORD in seen) == ("word" in asked)
    assert (audio_pb2.TIMESTAMP_GRANULARITY_SEGMENT in seen) == ("segment" in asked)


async def test_logprobs(audio: AudioFleet) -> None:
    answer = (await audio.transcribe(**{"include[]": "logprobs"})).json()
    assert audio.replicas[0].uploads[0].config.include_logprobs
    assert answer["logprobs"][1] == {
        "token": " one --> two.",
        "logprob": -0.5,
        "bytes": list(b" one --> two."),
    }


async def test_stream(audio: AudioFleet) -> None:
    response = await audio.transcribe(stream="true")
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(response.text)
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert len(deltas) == 2
    assert "".join(delta["delta"] for delta in deltas) == TEXT
    assert done == {
        "type": "transcript.text.done",
        "text": TEXT,
        "usage": {"type": "duration", "seconds": 3603.0},
    }
    with_logprobs = events((await audio.transcribe(stream="true", include="logprobs")).text)
    assert with_logprobs[0]["logprobs"][0]["logprob"] == -0.5
    assert len(with_logprobs[-1]["logprobs"]) == 2
    assert events((await audio.transcribe(stream="True", response_format="text")).text)[-1]["text"] == TEXT


async def test_every_field_reaches_the_replica(audio: AudioFleet) -> None:
    response = await audio.transcribe(
        language="Spanish",
        prompt="Lunes, martes",
        temperature="0.5",
        **{"hotwords[]": ["Trenza", "lunes, martes"]},
        chunking_strategy='{"type": "server_vad", "threshold": 0.25, "prefix_padding_ms": 200}',
        priority="0",
        session_id="s",
        colour="blue",
    )
    assert response.status_code == 200
    assert response.headers["x-trenza-ignored-fields"] == "colour"
    config = audio.replicas[0].uploads[0].config
    assert (config.language, config.prompt, config.temperature) == ("es", "Lunes, martes", 0.5)
    assert list(config.hotwords) == ["Trenza", "lunes", "martes"]
    voice = config.chunking_strategy.voice_activity
    assert (voice.threshold, voice.prefix_padding_ms) == (0.25, 200)
    assert not voice.HasField("silence_duration_ms")
    assert config.context.priority == common_pb2.PRIORITY_CLASS_URGENT
    assert config.context.session_id == "s"


async def test_other_ways_to_say_the_same(audio: AudioFleet) -> None:
    await audio.transcribe(
        **{
            "chunking_strategy[type]": "server_vad",
            "chunking_strategy[threshold]": "0.5",
            "chunking_strategy[silence_duration_ms]": "300",
            "keywords[]": ["one", "two"],
            "languages[]": "en",
            "prompt": "",
        }
    )
    await audio.transcribe(chunking_strategy="auto", hotwords="one,two")
    first, second = (upload.config for upload in audio.replicas[0].uploads)
    voice = first.chunking_strategy.voice_activity
    assert (voice.threshold, voice.silence_duration_ms) == (0.5, 300)
    assert list(first.hotwords) == list(second.hotwords) == ["one", "two"]
    assert first.language == "en"
    assert second.chunking_strategy.WhichOneof("strategy") == "automatic"


async def test_translations(audio: AudioFleet) -> None:
    answer = (await audio.transcribe(path="translations", response_format="verbose_json")).json()
    assert (answer["task"], answer["language"], answer["text"]) == ("translate", "english", TEXT)
    assert audio.replicas[0].uploads[0].sound == SOUND
    plain = (await audio.transcribe(path="translations", language="es", prompt="x", temperature="1")).json()
    assert plain["text"] == TEXT
    assert audio.replicas[0].uploads[1].config.language == "es"
    assert events((await audio.transcribe(path="translations", stream="true")).text)[-1]["text"] == TEXT


WRONG = [
    ({"model": ""}, "model", "missing_required_parameter"),
    ({"model": "gpt-9"}, "model", "model_not_found"),
    ({"model": SPEAKS}, "model", "unsupported_value"),
    ({"model": ["a", "b"]}, "model", None),
    ({"language": "es-419-and-more"}, "language", "invalid_value"),
    ({"prompt": "x" * 10_001}, "prompt", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_value"),
    ({"temperature": "1.5"}, "temperature", "invalid_value"),
    ({"temperature": "nan"}, "temperature", "invalid_value"),
    ({"response_format": "xml"}, "response_format", "invalid_value"),
    ({"response_format": "diarized_json"}, "response_format", "invalid_value"),
    ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "unsupported_value"),
    (
        {"response_format": "verbose_json", "timestamp_granularities[]": "letter"},
        "timestamp_granularities[0]",
        "invalid_value",
    ),
    ({"include[]": "everything"}, "include[0]", "invalid_value"),
    ({"include[]": "logprobs", "response_format": "srt"}, "include", "unsupported_value"),
    ({"chunking_strategy": "often"}, "chunking_strategy", "invalid_value"),
    ({"chunking_strategy": '{"type": "client_vad"}'}, "chunking_strategy.type", "invalid_value"),
    ({"chunking_strategy": '{"type": "server_vad", "threshold": 2}'}, "chunking_strategy.threshold", "invalid_value"),
    ({"chunking_strategy[threshold]": "0.5"}, "chunking_strategy.type", "missing_required_parameter"),
    ({"chunking_strategy": "[" * 100_000}, "chunking_strategy", "invalid_value"),
    ({"stream": "perhaps"}, "stream", "invalid_value"),
    ({"stream": "true", "response_format": "vtt"}, "response_format", "unsupported_value"),
    ({"known_speaker_names[]": ["agent", "customer"]}, "known_speaker_names", "unsupported_value"),
    ({"known_speaker_references[]": "data:audio/wav;base64,AA"}, "known_speaker_references", "unsupported_value"),
    ({"languages[]": ["en", "es"]}, "languages", "unsupported_value"),
    ({"hotwords[]": ["x"] * 129}, "hotwords", "invalid_value"),
    ({"priority": "3"}, "priority", "invalid_value"),
]


async def test_wrong_fields_are_named(audio: AudioFleet) -> None:
    for fields, param, code in WRONG:
        response = await audio.transcribe(**fields)
        assert response.status_code == (404 if code == "model_not_found" else 400), fields
        error = response.json()["error"]
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code), fields
    assert not audio.replicas[0].uploads


async def test_a_transcription_without_a_model(audio: AudioFleet) -> None:
    response = await audio.client.post("/v1/audio/transcriptions", files={"file": ("a.wav", SOUND)})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"


async def test_what_is_counted(audio: AudioFleet) -> None:
    def heard(text: str) -> float:
        [line] = [line for line in text.splitlines() if line.startswith(f'{name}{{kind="heard",model="{HEARS}"}}')] or [
            "0"
        ]
        return float(line.split()[-1])

    name = "trenza_gateway_sound_seconds_total"
    before = heard((await audio.client.get("/metrics")).text)
    await audio.transcribe()
    await audio.transcribe(path="translations")
    await audio.speak()
    text = (await audio.client.get("/metrics")).text
    assert heard(text) == before + 2 * 3603.0
    assert f'{name}{{kind="spoken",model="{SPEAKS}"}}' in text
    assert 'route="/v1/audio/transcriptions",status="200"' in text
    await eventually(lambda: [release.units_used for release in audio.scheduler.releases] == [3603, 3603, 11])


async def test_the_documentation(audio: AudioFleet) -> None:
    document = (await audio.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path in ("transcriptions", "translations"):
        content = document["paths"][f"/v1/audio/{path}"]["post"]["requestBody"]["content"]["multipart/form-data"]
        assert content["schema"]["$ref"].rpartition("/")[2] in schemas
        for example in content["examples"].values():
            fields = {f"{name}[]" if isinstance(said, list) else name: said for name, said in example["value"].items()}
            assert (await audio.transcribe(path=path, **fields)).status_code == 200
    content = document["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]["application/json"]
    assert content["schema"]["$ref"].rpartition("/")[2] in schemas
    assert len(content["examples"]) == 3
    for example in content["examples"].values():
        assert (await audio.client.post("/v1/audio/speech", json=example["value"])).status_code == 200
    assert "file" in schemas["HearingBody"]["required"]
    assert "/v1/audio/voices" in document["paths"]
