"""The audio replica's promises to a gRPC client, kept by the real process: happy, cancelled, deadline, draining, killed."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from mesh import Mesh, Process, eventually
from trenza.audio.v1 import audio_pb2, audio_pb2_grpc
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza_runtime.rpc.channel import open_channel
from wire.wire_calls import address_of, context, fault_of, messages_of

NAME = "trenza.audio.v1.AudioService"
HEARER, VOICE = "starter-whisper", "starter-voice"
CHUNK_BYTES = 256 * 1024
SENTENCE = "three blue squares and one green star"
LONG_S = 1800


@pytest.fixture
def replica(own_mesh: Mesh) -> Process:
    """An audio replica all alone: it serves whoever knows its address, scheduler or not."""
    settings = {"PRELOAD": f"{HEARER},{VOICE}", "SLOTS": "2", "QUEUE_LIMIT": "1"}
    return own_mesh.start_replica(
        "audio", "audio-0", **{f"TRENZA_AUDIO_{name}": value for name, value in settings.items()}
    )


@pytest.fixture
async def stub(replica: Process) -> AsyncIterator[audio_pb2_grpc.AudioServiceAsyncStub]:
    channel = open_channel(address_of(replica))
    yield audio_pb2_grpc.AudioServiceStub(channel)
    await channel.close()


def says(text: str = SENTENCE, **fields: Any) -> audio_pb2.SpeakRequest:
    usual = {"context": context(VOICE), "language": "en", "format": audio_pb2.AUDIO_FORMAT_PCM}
    return audio_pb2.SpeakRequest(input=text, **{**usual, **fields})


async def spoken(stub: audio_pb2_grpc.AudioServiceAsyncStub, request: audio_pb2.SpeakRequest) -> bytes:
    return b"".join([message.chunk for message in await messages_of(stub.Speak(request))])


def wav(pcm: bytes, rate_hz: int = 24_000) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(pcm)
    return stream.getvalue()


async def long_recording(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> bytes:
    """Half an hour in which somebody says the same sentence again and again."""
    once = await spoken(stub, says()) + b"\0" * 24_000
    return wav(once * (LONG_S * 48_000 // len(once)))


async def hears(sound: bytes, **fields: Any) -> AsyncIterator[audio_pb2.TranscribeRequest]:
    config = audio_pb2.TranscriptionConfig(**{"context": context(HEARER), **fields})
    yield audio_pb2.TranscribeRequest(config=config)
    for begin in range(0, len(sound), CHUNK_BYTES):
        yield audio_pb2.TranscribeRequest(chunk=sound[begin : begin + CHUNK_BYTES])


async def first_segment(call: Any) -> None:
    """Waits until something has been understood."""
    async for message in call:
        if message.WhichOneof("event") == "segment":
            return
    raise AssertionError("there was no segment")


async def test_happy(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    messages = await messages_of(stub.Speak(says()))
    assert messages[0].started.sample_rate_hz == 24_000
    assert messages[-1].summary.duration_s > 0.5
    sound = wav(b"".join(message.chunk for message in messages))
    heard = await messages_of(stub.Transcribe(hears(sound)))
    kinds = [message.WhichOneof("event") for message in heard]
    assert kinds[0] == "started"
    assert kinds[-1] == "summary"
    assert {"segment", "progress"} <= set(kinds)
    summary = heard[-1].summary
    assert summary.language == "en"
    assert summary.text.strip().lower().rstrip(".") == SENTENCE
    assert summary.duration_s == pytest.approx(messages[-1].summary.duration_s, abs=0.1)

    async def spanish() -> AsyncIterator[audio_pb2.TranslateRequest]:
        said = await spoken(stub, says("tres círculos rojos", language="es"))
        async for request in hears(wav(said)):
            translation = audio_pb2.TranslateRequest()
            translation.ParseFromString(request.SerializeToString())
            yield translation

    translated = (await messages_of(stub.Translate(spanish())))[-1].summary
    assert translated.text.strip().lower().rstrip(".") == "three red circles"


async def test_voices(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    listed = (await stub.ListVoices(audio_pb2.ListVoicesRequest(context=context(VOICE)))).voices
    assert {"en", "es"} <= {language for voice in listed for language in voice.languages}
    aliases = {alias for voice in listed for alias in voice.aliases}
    assert {"alloy", "nova", "onyx"} <= aliases
    fault = await fault_of(stub.Speak(says(voice="nobody")))
    assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "voice")


async def test_cancelled(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    recording = await long_recording(stub)
    calls = [stub.Transcribe(hears(recording)) for _ in range(2)]
    for call in calls:
        await first_segment(call)
    for call in calls:
        call.cancel()
    # Both slots are free again, or these would wait behind an hour of sound.
    short = wav(await spoken(stub, says("yes")))
    await asyncio.wait_for(asyncio.gather(*(messages_of(stub.Transcribe(hears(short))) for _ in range(2))), 30)
    speaking = stub.Speak(says("One, two, three. " * 200))
    await speaking.read()
    speaking.cancel()
    assert await asyncio.wait_for(spoken(stub, says("yes")), 30)


async def test_deadline(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    recording = await long_recording(stub)
    fault = await fault_of(stub.Transcribe(hears(recording), timeout=1.5))
    assert fault.code == grpc.StatusCode.DEADLINE_EXCEEDED
    short = wav(await spoken(stub, says("yes")))
    await asyncio.wait_for(messages_of(stub.Transcribe(hears(short))), 30)


async def test_short_ones_are_not_stuck_behind_long_ones(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    long = stub.Transcribe(hears(await long_recording(stub)))
    await first_segment(long)
    short = wav(await spoken(stub, says()))
    await asyncio.wait_for(messages_of(stub.Transcribe(hears(short))), 30)
    assert not long.done()
    long.cancel()


async def test_full(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    """Two slots, one waits, the fourth is refused and told when to come back."""
    recording = await long_recording(stub)
    short = wav(await spoken(stub, says("yes")))
    running = [stub.Transcribe(hears(recording)) for _ in range(2)]
    for call in running:
        await first_segment(call)
    waiting = asyncio.create_task(messages_of(stub.Transcribe(hears(short))))
    await asyncio.sleep(0.5)
    fault = await fault_of(stub.Transcribe(hears(short)))
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert fault.retry_after_s is not None
    for call in running:
        call.cancel()
    await asyncio.wait_for(waiting, 30)


async def test_draining(stub: audio_pb2_grpc.AudioServiceAsyncStub, replica: Process) -> None:
    recording = wav((await spoken(stub, says()) + b"\0" * 24_000) * 40)
    call = stub.Transcribe(hears(recording))
    await first_segment(call)
    running = asyncio.create_task(messages_of(call))
    replica.popen.terminate()
    await asyncio.sleep(0.3)
    assert (await fault_of(stub.Speak(says()))).reason in ("DRAINING", "UNAVAILABLE")
    assert (await asyncio.wait_for(running, 60))[-1].summary.duration_s > 60
    assert await asyncio.to_thread(replica.popen.wait, 30) == 0


async def test_killed(stub: audio_pb2_grpc.AudioServiceAsyncStub, replica: Process) -> None:
    call = stub.Transcribe(hears(await long_recording(stub)))
    await first_segment(call)
    workers = [*replica.workers(HEARER), *replica.workers(VOICE)]
    assert workers
    replica.kill()
    assert (await fault_of(call)).code == grpc.StatusCode.UNAVAILABLE
    eventually(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


async def test_wrong_requests_are_told_what_is_wrong(stub: audio_pb2_grpc.AudioServiceAsyncStub) -> None:
    sound = wav(await spoken(stub, says()))
    for garbage in (b"", b"no sound at all", sound[:30], b"\x89PNG\r\n\x1a\n" + b"\0" * 5000):
        fault = await fault_of(stub.Transcribe(hears(garbage)))
        assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "file"), garbage[:9]
    wrong = {
        "language": hears(sound, language="klingon"),
        "temperature": hears(sound, temperature=-1.0),
        "model": hears(sound, context=context("")),
    }
    for param, requests in wrong.items():
        assert (await fault_of(stub.Transcribe(requests))).details["param"] == param
    assert (await fault_of(stub.Transcribe(hears(sound, context=context("nope"))))).reason == "MODEL_NOT_FOUND"
    for param, request in {"input": says(""), "speed": says(speed=9.0), "model": says(context=context(""))}.items():
        assert (await fault_of(stub.Speak(request))).details["param"] == param
    silence = await messages_of(stub.Transcribe(hears(wav(b"\0" * 96_000))))
    assert silence[-1].summary.text.strip() == ""


async def test_health_reflection_and_catalogue(replica: Process) -> None:
    with grpc.insecure_channel(address_of(replica)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", NAME):
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert NAME in ProtoReflectionDescriptorDatabase(channel).get_services()
        models = common_pb2_grpc.ModelServiceStub(channel).ListModels(common_pb2.ListModelsRequest()).models
        assert [model.name for model in models] == [VOICE, HEARER]
