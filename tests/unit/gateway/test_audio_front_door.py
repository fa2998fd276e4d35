"""AudioService over gRPC: dispatched like HTTP requests, uploads passed on as they arrive."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from audio_fakes import (
    CRASH,
    HEARS,
    NOT_SOUND,
    SPEAKS,
    AudioFleet,
    FakeAudioReplica,
    Heard,
    audio_fleet,
    hearing_fails,
    read_all,
    segments,
)
from fleet_fakes import eventually
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trenza.audio.v1 import audio_pb2, audio_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error

MIB = 2**20


@pytest.fixture
async def audio() -> AsyncIterator[AudioFleet]:
    async with audio_fleet() as running:
        yield running


@asynccontextmanager
async def door(fleet: AudioFleet) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(fleet.grpc_address) as channel:
        yield audio_pb2_grpc.AudioServiceStub(channel)


def config(model: str = HEARS, **context: Any) -> audio_pb2.TranscriptionConfig:
    return audio_pb2.TranscriptionConfig(
        context=common_pb2.RequestContext(model=model, **context),
        media=common_pb2.MediaDescription(file_name="a.wav", size_bytes=5 * 4096),
        language="es",
    )


async def upload(*chunks: bytes, pause_s: float = 0.0, **context: Any) -> AsyncIterator[audio_pb2.TranscribeRequest]:
    yield audio_pb2.TranscribeRequest(config=config(**context))
    for chunk in chunks:
        await asyncio.sleep(pause_s)
        yield audio_pb2.TranscribeRequest(chunk=chunk)


async def fault_of(call: Any) -> RpcFault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [message async for message in call]
    return from_rpc_error(caught.value)


async def test_transcribe(audio: AudioFleet) -> None:
    async with door(audio) as stub:
        requests = upload(b"one", b"two", lease_id="forged", tenant="forged")
        messages = [message async for message in stub.Transcribe(requests)]
    assert messages == segments(audio_pb2.TranscribeResponse)
    [heard] = audio.replicas[0].uploads
    assert heard.chunks == [b"one", b"two"]
    assert (heard.config.context.lease_id, heard.config.context.tenant) == ("lease-1", "anonymous")
    assert heard.config.language == "es"
    assert audio.scheduler.tickets[0].size_estimate == 5
    await eventually(lambda: audio.outcomes() == ["OUTCOME_COMPLETED"])


async def test_translate(audio: AudioFleet) -> None:
    async def requests() -> AsyncIterator[audio_pb2.TranslateRequest]:
        yield audio_pb2.TranslateRequest(config=config())
        yield audio_pb2.TranslateRequest(chunk=b"one")

    async with door(audio) as stub:
        messages = [message async for message in stub.Translate(requests())]
    assert messages == segments(audio_pb2.TranslateResponse)
    assert audio.replicas[0].uploads[0].sound == b"one"


async def test_speak_and_voices(audio: AudioFleet) -> None:
    context = common_pb2.RequestContext(model=SPEAKS)
    async with door(audio) as stub:
        call = stub.Speak(audio_pb2.SpeakRequest(context=context, input="hello there", voice="alloy"))
        assert b"".join([message.chunk async for message in call]) == b"hellothere"
        every = await stub.ListVoices(audio_pb2.ListVoicesRequest())
        assert [voice.name for voice in every.voices] == ["starter-voice-en", "starter-voice-es"]
        some = await stub.ListVoices(audio_pb2.ListVoicesRequest(context=context, language="es"))
        assert [voice.name for voice in some.voices] == ["starter-voice-es"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListVoices(audio_pb2.ListVoicesRequest(context=common_pb2.RequestContext(model="gpt-9")))
        assert from_rpc_error(caught.value).reason == Reason.MODEL_NOT_FOUND


async def test_the_upload_is_passed_on_while_it_arrives(audio: AudioFleet) -> None:
    go_on = asyncio.Event()

    async def halting() -> AsyncIterator[audio_pb2.TranscribeRequest]:
        yield audio_pb2.TranscribeRequest(config=config())
        yield audio_pb2.TranscribeRequest(chunk=b"one")
        await go_on.wait()
        yield audio_pb2.TranscribeRequest(chunk=b"two")

    async with door(audio) as stub:
        call = stub.Transcribe(halting())
        await eventually(lambda: audio.replicas[0].uploads and audio.replicas[0].uploads[0].chunks == [b"one"])
        go_on.set()
        assert [message async for message in call]
    assert audio.replicas[0].uploads[0].chunks == [b"one", b"two"]


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
@pytest.mark.parametrize("after_chunks", [None, 0, 2])
async def test_a_refused_upload_goes_to_another_replica_whole(after_chunks: int | None, pause_s: float) -> None:
    chunks = [bytes([number]) * 100_000 for number in range(20)]
    async with audio_fleet(FakeAudioReplica("audio-0"), FakeAudioReplica("audio-1")) as audio, door(audio) as stub:
        audio.replicas[0].hear = hearing_fails(CRASH, after_chunks)
        audio.scheduler.leases["taken"] = "audio-1"
        assert [message async for message in stub.Transcribe(upload(*chunks, pause_s=pause_s))]
        assert audio.replicas[1].uploads[0].chunks == chunks
        await eventually(lambda: audio.outcomes() == ["OUTCOME_REPLICA_FAILED", "OUTCOME_COMPLETED"])


async def test_an_upload_of_which_too_much_is_sent_is_not_tried_again() -> None:
    async with audio_fleet(FakeAudioReplica("audio-0"), FakeAudioReplica("audio-1")) as audio, door(audio) as stub:
        audio.replicas[0].hear = hearing_fails(CRASH)
        audio.scheduler.leases["taken"] = "audio-1"
        fault = await fault_of(stub.Transcribe(upload(*[bytes(MIB // 2)] * 20)))
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.REPLICA_UNREACHABLE)
        assert not audio.replicas[1].uploads
        await eventually(lambda: not audio.scheduler.leases.keys() - {"taken"})


async def test_errors_have_reasons(audio: AudioFleet) -> None:
    async with door(audio) as stub:
        assert (await fault_of(stub.Transcribe(upload(model="gpt-9")))).reason == Reason.MODEL_NOT_FOUND
        assert (await fault_of(stub.Transcribe(upload(model="")))).details["param"] == "context.model"
        assert (await fault_of(stub.Transcribe(upload(model=SPEAKS)))).reason == Reason.UNSUPPORTED

        async def no_configuration() -> AsyncIterator[audio_pb2.TranscribeRequest]:
            yield audio_pb2.TranscribeRequest(chunk=b"one")

        async def nothing() -> AsyncIterator[audio_pb2.TranscribeRequest]:
            return
            yield

        for requests in (no_configuration(), nothing()):
            fault = await fault_of(stub.Transcribe(requests))
            assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "config")
        assert not audio.replicas[0].uploads
        audio.replicas[0].hear = hearing_fails(NOT_SOUND, after_chunks=0)
        for _ in range(5):
            fault = await fault_of(stub.Transcribe(upload(*[bytes(MIB // 2)] * 10)))
            assert (fault.code, fault.details["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, "file")


async def test_cancelling_reaches_the_replica(audio: AudioFleet, caplog: pytest.LogCaptureFixture) -> None:
    async def silent(answer: type, heard: Heard, requests: Any) -> AsyncIterator[Any]:
        await read_all(heard, requests)
        yield answer()

    async def endless() -> AsyncIterator[audio_pb2.TranscribeRequest]:
        yield audio_pb2.TranscribeRequest(config=config())
        while True:
            await asyncio.sleep(0.01)
            yield audio_pb2.TranscribeRequest(chunk=b"one")

    audio.replicas[0].hear = silent
    with caplog.at_level(logging.WARNING):
        async with door(audio) as stub:
            call = stub.Transcribe(endless())
            await eventually(lambda: audio.replicas[0].running)
            call.cancel()
            await eventually(lambda: audio.replicas[0].cancelled == 1)
        await eventually(lambda: audio.outcomes() == ["OUTCOME_CANCELLED"])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_callers_deadline_counts(audio: AudioFleet) -> None:
    async def silent(answer: type, heard: Heard, requests: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield answer()

    audio.replicas[0].hear = silent
    async with door(audio) as stub:
        fault = await fault_of(stub.Transcribe(upload(b"one"), timeout=0.5))
    assert fault.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: not audio.scheduler.leases)
    assert audio.scheduler.tickets[0].wait_limit_ms <= 500


async def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"ann:{hashlib.sha256(b'secret').hexdigest()}\n")
    async with audio_fleet(api_keys_file=path) as audio, door(audio) as stub:
        assert (await fault_of(stub.Transcribe(upload(b"one")))).code is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ListVoices(audio_pb2.ListVoicesRequest())
        call = stub.Transcribe(upload(b"one"), metadata=(("authorization", "Bearer secret"),))
        assert [message async for message in call]
        assert audio.scheduler.tickets[0].tenant == "ann"


async def test_health(audio: AudioFleet) -> None:
    async with grpc.aio.insecure_channel(audio.grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="trenza.audio.v1.AudioService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
