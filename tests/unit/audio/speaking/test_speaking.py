"""Speaking over gRPC: a real server, real worker processes, the real espeak-ng, a tiny Bark and a tiny Kokoro."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import tiny_kokoro
from hearing import decoded, loudness, seconds
from talking import Talking, kinds, request, sound, talking
from trenza.audio.v1 import audio_pb2 as pb
from trenza_audio.speaking.core.voices import OPENAI_VOICES
from trenza_audio.speaking.translate import MAX_CHUNK_BYTES, MAX_INPUT_CHARS
from trenza_runtime.errors import from_rpc_error
from trenza_runtime.models.manifest import read_manifest

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = ("This sentence is spoken again and again. " * 100)[:MAX_INPUT_CHARS]
FORMATS = {
    "mp3": pb.AUDIO_FORMAT_MP3,
    "opus": pb.AUDIO_FORMAT_OPUS,
    "aac": pb.AUDIO_FORMAT_AAC,
    "flac": pb.AUDIO_FORMAT_FLAC,
    "wav": pb.AUDIO_FORMAT_WAV,
    "pcm": pb.AUDIO_FORMAT_PCM,
}


async def all_of(call: Any) -> list[pb.SpeakResponse]:
    return [response async for response in call]


STARTER_VOICE = Path(__file__).parents[4] / "models" / "starter" / "starter-voice" / "model.toml"


async def test_every_format_is_speech_of_the_same_length(service: Talking) -> None:
    lengths_s = []
    for name, number in FORMATS.items():
        responses = await service.speak("Three blue squares. And one green star!", format=number)
        started, summary = responses[0].started, responses[-1].summary
        wave, rate_hz = decoded(sound(responses), name)
        assert (started.format, started.sample_rate_hz) == (number, rate_hz)
        assert loudness(wave) > 0.02
        assert len(wave) / rate_hz == pytest.approx(summary.duration_s, abs=0.12)
        lengths_s.append(summary.duration_s)
    assert 1.5 < max(lengths_s) == pytest.approx(min(lengths_s), abs=0.02)


async def test_what_a_stream_tells(service: Talking) -> None:
    responses = await service.speak("One. Two. Three.")
    assert kinds(responses) == ["started", *["chunk", "progress"] * 3, "summary"]
    started = responses[0].started
    assert started == pb.SpeechStarted(format=pb.AUDIO_FORMAT_MP3, sample_rate_hz=24_000, voice="en-us", language="en")
    progress = [response.progress for response in responses if response.WhichOneof("event") == "progress"]
    assert [(one.step, one.steps) for one in progress] == [(1, 3), (2, 3), (3, 3)]
    assert [one.fraction for one in progress] == pytest.approx([1 / 3, 2 / 3, 1])
    summary = responses[-1].summary
    assert summary.input_characters == 16
    assert summary.timings.prefill_s > 0
    assert not summary.HasField("usage")


async def test_the_first_sound_comes_long_before_the_last(service: Talking) -> None:
    responses = await service.speak(LONG, format=pb.AUDIO_FORMAT_WAV)
    chunks = [response.chunk for response in responses if response.WhichOneof("event") == "chunk"]
    assert len(chunks) > 50
    assert len(chunks[0]) < len(sound(responses)) / 30
    assert max(map(len, chunks)) <= MAX_CHUNK_BYTES
    assert seconds(sound(responses), "wav") == pytest.approx(responses[-1].summary.duration_s, abs=0.05)


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("hoy es lunes", {}, ("es", "es")),
        ("three blue squares", {}, ("en-us", "en")),
        ("hoy es lunes", {"voice": "nova"}, ("es+f3", "es")),
        ("hoy es lunes", {"language": "es-419"}, ("es-419", "es")),
        ("hoy es lunes", {"voice": "en-gb"}, ("en-gb", "en")),
        ("hoy es lunes", {"voice": "Onyx", "language": "EN"}, ("en-us+m7", "en")),
        ("你好", {"voice": "shimmer"}, ("cmn+f5", "zh")),
    ],
)
async def test_who_speaks(service: Talking, text: str, fields: dict[str, str], expected: tuple[str, str]) -> None:
    started = (await service.speak(text, **fields))[0].started
    assert (started.voice, started.language) == expected


async def test_voices_and_speeds_are_heard(service: Talking) -> None:
    usual = await service.pcm()
    assert seconds(await service.pcm(speed=0.5)) == pytest.approx(2 * seconds(usual), rel=0.15)
    assert seconds(await service.pcm(speed=4.0)) == pytest.approx(seconds(usual) / 4, rel=0.15)
    others = {voice: await service.pcm(voice=voice) for voice in ("nova", "onyx", "en-gb", "echo")}
    assert len({len(other) for other in others.values()} | {len(usual)}) > 3


@pytest.mark.parametrize(
    "text",
    [
        "<speak>Hi <break/></speak>",
        "😀 😃",
        "a\x00b\x07\x1b[31m\x01c",
        "x" * MAX_INPUT_CHARS,
        "1,234.5 € &amp; 50%",
        "\u202ehi",
    ],
)
async def test_strange_texts_are_spoken(service: Talking, text: str) -> None:
    assert loudness(decoded(await service.pcm(text, language="en"), "pcm")[0]) > 0.01


@pytest.mark.parametrize(
    ("param", "text", "fields"),
    [
        ("input", "", {}),
        ("input", " \n\t ", {}),
        ("input", "...?!", {}),
        ("input", "\x00\x01\x02", {}),
        ("input", "x" * (MAX_INPUT_CHARS + 1), {}),
        ("voice", "hi", {"voice": "nobody"}),
        ("voice", "hi", {"voice": "en-us+nobody"}),
        ("voice", "hi", {"voice": "x" * 5000}),
        ("language", "hi", {"language": "klingon"}),
        ("language", "hi", {"voice": "es", "language": "en"}),
        ("speed", "hi", {"speed": 0.2}),
        ("speed", "hi", {"speed": 4.1}),
        ("speed", "hi", {"speed": float("nan")}),
        ("temperature", "hi", {"temperature": -1.0}),
        ("response_format", "hi", {"format": 99}),
        ("model", "hi", {"model": ""}),
    ],
)
async def test_wrong_requests_name_the_field(service: Talking, param: str, text: str, fields: dict) -> None:
    fault = await service.fault(text, **fields)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert fault.details == {"param": param}
    assert len(fault.message) < 1000


async def test_an_unknown_voice_is_told_the_voices(service: Talking) -> None:
    message = (await service.fault(voice="nobody")).message
    assert all(name in message for name in (*OPENAI_VOICES, "en-us", "es-419", "'nobody'"))
    assert "more" in message


async def test_models_that_are_not_there_or_do_not_speak(service: Talking, models: Path) -> None:
    fault = await service.fault(model="parrot")
    assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    with pytest.raises(grpc.aio.AioRpcError, match="no model 'parrot'"):
        await service.voices("parrot")


async def test_listing_voices_loads_nothing(tmp_path: Path) -> None:
    for name, engine, more in (
        ("voice", "espeak", ""),
        ("bark", "bark", '[speaking]\nhub = "suno/bark-small"\n'),
        ("ear", "whisper", ""),
        ("broken", "kokoro", ""),
    ):
        (tmp_path / name).mkdir()
        capability = "transcription" if name == "ear" else "speech"
        (tmp_path / name / "model.toml").write_text(
            f'name = "{name}"\nmodality = "audio"\nengine = "{engine}"\ncapabilities = ["{capability}"]\n{more}'
        )
    async with talking(tmp_path) as service:
        voices = await service.voices()
        assert {voice.model for voice in voices} == {"voice", "bark"}
        assert [(voice.model, voice.name) for voice in voices] == sorted((voice.model, voice.name) for voice in voices)
        spanish = await service.voices("voice", "es-MX")
        assert {"es", "es-419", "plain", "f3"} <= {voice.name for voice in spanish}
        assert all("es" in voice.languages for voice in spanish)
        assert len(spanish) < len(await service.voices("voice"))
        assert {voice.name: list(voice.aliases) for voice in spanish}["plain"] == ["alloy"]
        assert not await service.voices("voice", "xx")
        assert not service.host.loaded()
        for call in (service.fault(model="ear"), service.fault(model="broken")):
            assert (await call).reason in ("UNSUPPORTED", "MODEL_LOAD_FAILED")


async def test_a_short_text_passes_a_long_one(service: Talking) -> None:
    long = service.stub.Speak(request(LONG, speed=0.25, format=pb.AUDIO_FORMAT_FLAC), timeout=60)
    await long.read()
    await long.read()
    assert await asyncio.wait_for(service.pcm("Hi."), 20)
    assert not long.done()
    long.cancel()


async def test_cancelling_frees_the_slot(service: Talking) -> None:
    calls = [service.stub.Speak(request(LONG, speed=0.25)) for _ in range(2)]
    for call in calls:
        await call.read()
    (loaded,) = service.host.loaded()
    assert loaded.gate.slots_used == 2
    for call in calls:
        call.cancel()
    assert await asyncio.wait_for(service.pcm("Hi."), 20)
    assert loaded.gate.slots_used == 0
    assert loaded.worker.open_requests == 0


async def test_a_full_line_and_a_deadline(service: Talking) -> None:
    calls = [service.stub.Speak(request(LONG, speed=0.25)) for _ in range(2)]
    for call in calls:
        await call.read()
    (loaded,) = service.host.loaded()
    os.kill(loaded.worker.pid or 0, signal.SIGSTOP)  # so that nothing gets done behind the test's back
    try:
        late = service.stub.Speak(request("Hi."), timeout=1)
        waiting = asyncio.ensure_future(late.read())
        while not loaded.gate.waiting:  # noqa: ASYNC110  the gate sets no event when somebody joins its line
            await asyncio.sleep(0.01)
        full = await service.fault()
        assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert full.retry_after_s
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        os.kill(loaded.worker.pid or 0, signal.SIGCONT)
        for call in calls:
            call.cancel()
    assert await service.pcm("Hi.")


async def test_the_service_has_a_time_limit_of_its_own(models: Path) -> None:
    async with talking(models, request_limit_s=1.0) as service, service.host.use("voice", 60) as loaded:
        psutil.Process(loaded.worker.pid).suspend()
        fault = await service.fault("Hi.")
        assert (fault.code, fault.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert not loaded.gate.slots_used
        psutil.Process(loaded.worker.pid).resume()


async def test_a_killed_worker_is_told_and_comes_back(service: Talking) -> None:
    await service.pcm("Hi.")
    (loaded,) = service.host.loaded()
    call = service.stub.Speak(request(LONG, speed=0.25))
    reading = asyncio.ensure_future(all_of(call))
    while not loaded.gate.slots_used:  # noqa: ASYNC110  the gate sets no event when somebody comes in
        await asyncio.sleep(0.01)
    os.kill(loaded.worker.pid or 0, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reading
    assert from_rpc_error(caught.value).reason == "ENGINE_CRASHED"
    assert await service.pcm("Hi.")


async def test_bark_and_kokoro_speak_over_grpc_too(tmp_path: Path, bark_folder: Path) -> None:
    tiny_kokoro.write_kokoro(tmp_path / "kokoro")
    (tmp_path / "bark").mkdir()
    (tmp_path / "bark" / "model").symlink_to(bark_folder)
    (tmp_path / "kokoro" / "model.toml").write_text(
        'name = "kokoro"\nmodality = "audio"\nengine = "kokoro"\ncapabilities = ["speech"]\n'
        '[files]\nmodel = "kokoro.onnx"\nvoices = "voices.bin"\n[defaults]\nvoice = "af_nova"\nspeed = 2.0\n'
    )
    (tmp_path / "bark" / "model.toml").write_text(
        'name = "bark"\nmodality = "audio"\nengine = "bark"\ncapabilities = ["speech"]\n[files]\nmodel = "model"\n'
    )
    async with talking(tmp_path) as service:
        hummed = await service.speak("Hello there.", model="kokoro", format=pb.AUDIO_FORMAT_PCM)
        assert (hummed[0].started.voice, hummed[0].started.language) == ("af_nova", "en")
        slower = await service.pcm("Hello there.", model="kokoro", speed=1.0)
        assert len(slower) > 1.5 * len(sound(hummed))
        spanish = await service.speak("hoy es lunes", model="kokoro", voice="onyx")
        assert (spanish[0].started.voice, spanish[0].started.language) == ("em_alex", "es")
        sampled = await service.speak("hola", model="bark", voice="alloy", language="es", seed=-3, temperature=0.9)
        assert sampled[0].started.voice == "v2/es_speaker_0"
        assert sampled[-1].summary.usage.prompt_tokens == 1
        assert sampled[-1].summary.usage.completion_tokens > 0
        assert np.any(decoded(sound(sampled), "mp3")[0])
        fault = await service.fault("hi", model="bark", voice="v2/en_speaker_5")
        assert fault.details["param"] == "voice"


async def test_the_starter_voice_is_a_model() -> None:
    manifest = read_manifest(STARTER_VOICE)
    assert (manifest.name, manifest.engine, manifest.files) == ("starter-voice", "espeak", {})
