"""Hearing as a gRPC client meets it: a real server, a real worker process, a tiny Whisper."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
import sounds
from trenza.audio.v1 import audio_pb2 as pb
from trenza.audio.v1 import audio_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_audio.__main__ import SERVICE
from trenza_audio.hearing.servicer import Hearing, HearingLimits
from trenza_audio.models import spec_for
from trenza_audio.servicer import AudioServicer
from trenza_audio.settings import AudioSettings
from trenza_audio.speaking.servicer import Speaking
from trenza_runtime.errors import RpcFault, from_rpc_error
from trenza_runtime.models.host import ModelHost
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcServer, RpcService

UPLOAD_LIMIT_BYTES = 3_000_000
CHUNK_BYTES = 100_000


class Service:
    """An audio service and a client of it."""

    def __init__(self, host: ModelHost, stub: audio_pb2_grpc.AudioServiceAsyncStub, spool: Path) -> None:
        self.host, self.stub, self.spool = host, stub, spool

    async def transcribe(self, sound: bytes, **config: Any) -> list[pb.TranscribeResponse]:
        """All responses to an upload. Raises RpcFault."""
        return await self.responses(transcription(sound, **config))

    async def responses(self, messages: Iterable[pb.TranscribeRequest]) -> list[pb.TranscribeResponse]:
        try:
            return [response async for response in self.stub.Transcribe(iter(messages))]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def refusal(self, sound: bytes, **config: Any) -> RpcFault:
        with pytest.raises(RpcFault) as raised:
            await self.transcribe(sound, **config)
        return raised.value


def transcription(sound: bytes, model: str = "ear", **config: Any) -> list[pb.TranscribeRequest]:
    context = common_pb2.RequestContext(model=model, request_id="same for all")
    first = pb.TranscribeRequest(config=pb.TranscriptionConfig(context=context, **config))
    pieces = [sound[at : at + CHUNK_BYTES] for at in range(0, len(sound), CHUNK_BYTES)]
    return [first, *(pb.TranscribeRequest(chunk=piece) for piece in pieces)]


def kinds(responses: Iterable[pb.TranscribeResponse]) -> list[str | None]:
    return [response.WhichOneof("event") for response in responses]


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, whisper_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, can in (
        ("ear", '["transcription", "translation"]'),
        ("scribe", '["transcription"]'),
        ("mouth", '["speech"]'),
    ):
        folder = root / name
        folder.mkdir()
        (folder / "model").symlink_to(whisper_folder)
        (folder / "model.toml").write_text(
            f'name = "{name}"\nmodality = "audio"\nengine = "whisper"\ncapabilities = {can}\n[files]\nmodel = "model"\n'
        )
    return root


@pytest.fixture
async def service(root: Path, tmp_path: Path) -> AsyncIterator[Service]:
    settings = AudioSettings(compute_type="float32", threads=1, slots=2, sound_limit_s=100)
    spool = tmp_path / "spool"
    spool.mkdir()
    host = ModelHost(ModelRegistry(root, common_pb2.MODALITY_AUDIO), lambda manifest: spec_for(manifest, settings))
    servicer = AudioServicer(Hearing(host, HearingLimits(60, UPLOAD_LIMIT_BYTES, spool)), Speaking(host, 60))
    served = RpcService(SERVICE, lambda server: audio_pb2_grpc.add_AudioServiceServicer_to_server(servicer, server))
    server = RpcServer("127.0.0.1", 0, [served])
    channel = open_channel(f"127.0.0.1:{await server.start()}")
    yield Service(host, audio_pb2_grpc.AudioServiceStub(channel), spool)
    await channel.close()
    await server.drain(0)
    await host.stop(5)


def wav(tmp_path: Path, seconds: float) -> bytes:
    return sounds.write_wav(tmp_path / "sound.wav", sounds.tones(seconds)).read_bytes()


async def eventually(condition: Callable[[], Any], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  the test looks from outside, nothing there sets an event for it
            await asyncio.sleep(0.01)


async def test_a_transcript_streams_in_order(service: Service, tmp_path: Path) -> None:
    responses = await service.transcribe(wav(tmp_path, 65), temperature=0.0)
    told = kinds(responses)
    assert told[0] == "started"
    assert told[-1] == "summary"
    segments = [response.segment for response in responses if response.HasField("segment")]
    assert [segment.id for segment in segments] == list(range(len(segments)))
    assert segments
    progress = [response.progress for response in responses if response.HasField("progress")]
    assert [one.fraction for one in progress] == sorted(one.fraction for one in progress)
    assert (progress[-1].fraction, progress[-1].step, progress[-1].steps) == (1.0, 65, 65)
    summary = responses[-1].summary
    assert summary.text == "".join(segment.text for segment in segments).strip()
    assert summary.duration_s == responses[0].started.duration_s == 65.0
    assert summary.language == responses[0].started.language in ("en", "es", "fr")
    assert summary.timings.prefill_s > 0
    assert not kept_uploads(service.spool)


async def test_words_logprobs_and_settings_arrive(service: Service, tmp_path: Path) -> None:
    responses = await service.transcribe(
        wav(tmp_path, 6),
        temperature=0.0,
        language="ES-mx",
        prompt="one two",
        hotwords=["green star", " "],
        include_logprobs=True,
        timestamp_granularities=[pb.TIMESTAMP_GRANULARITY_SEGMENT, pb.TIMESTAMP_GRANULARITY_WORD],
        chunking_strategy=pb.ChunkingStrategy(automatic=pb.AutomaticChunking()),
    )
    assert responses[0].started == pb.TranscriptStarted(language="es", language_probability=1.0, duration_s=6.0)
    segments = [response.segment for response in responses if response.HasField("segment")]
    words = [word for segment in segments for word in segment.words]
    assert all(0 <= word.probability <= 1 and word.start_s <= word.end_s for word in words)
    assert words
    assert b"".join(one.token_bytes for one in segments[0].logprobs).decode("utf-8", "replace") == segments[0].text


async def test_translation_has_its_own_messages(service: Service, tmp_path: Path) -> None:
    config, *chunks = transcription(wav(tmp_path, 4), temperature=0.0, language="es")
    messages = [
        pb.TranslateRequest(config=config.config),
        *(pb.TranslateRequest(chunk=message.chunk) for message in chunks),
    ]
    responses = [response async for response in service.stub.Translate(iter(messages))]
    assert responses[-1].summary.duration_s == 4.0
    assert responses[-1].summary.language == "es"


async def test_requests_of_different_clients_run_together(service: Service, tmp_path: Path) -> None:
    sound = wav(tmp_path, 5)
    answers = await asyncio.gather(*(service.transcribe(sound, temperature=0.0, language="en") for _ in range(5)))
    assert len({answer[-1].summary.text for answer in answers}) == 1


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no model": ({"model": ""}, "INVALID_ARGUMENT", "model"),
    "a model that does not hear": ({"model": "mouth"}, "UNSUPPORTED", "model"),
    "a temperature": ({"temperature": 1.5}, "INVALID_ARGUMENT", "temperature"),
    "no language": ({"language": "english please"}, "INVALID_ARGUMENT", "language"),
    "a language that it does not know": ({"language": "xx"}, "INVALID_ARGUMENT", "language"),
    "a prompt": ({"prompt": "x" * 20_000}, "INVALID_ARGUMENT", "prompt"),
    "hotwords": ({"hotwords": ["x" * 200]}, "INVALID_ARGUMENT", "hotwords"),
    "a threshold": (
        {"chunking_strategy": pb.ChunkingStrategy(voice_activity=pb.VoiceActivityChunking(threshold=2))},
        "INVALID_ARGUMENT",
        "chunking_strategy",
    ),
    "a size": ({"media": common_pb2.MediaDescription(size_bytes=10**9)}, "FILE_TOO_LARGE", "file"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_honoured_is_named(service: Service, tmp_path: Path, case: str) -> None:
    config, reason, param = REFUSED[case]
    fault = await service.refusal(wav(tmp_path, 1), **config)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason), fault
    assert fault.details["param"] == param


async def test_uploads_that_are_no_sound_are_refused_and_the_service_lives_on(service: Service, tmp_path: Path) -> None:
    ends = sounds.write_as(tmp_path / "x.mp4", sounds.tones(3), "mp4").read_bytes()[:-2000]
    long = sounds.write_as(tmp_path / "x.flac", sounds.silence(150), "flac").read_bytes()
    for content in (b"", b"no sound" * 1000, ends, long):
        fault = await service.refusal(content)
        assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_AUDIO")
        assert fault.details["param"] == "file"
    nothing = await service.transcribe(sounds.write_wav(tmp_path / "n", sounds.silence(0)).read_bytes())
    assert kinds(nothing) == ["started", "summary"]
    assert (nothing[-1].summary.text, nothing[-1].summary.duration_s) == ("", 0.0)
    assert not kept_uploads(service.spool)
    (loaded,) = service.host.loaded()
    assert loaded.gate.slots_used == 0


async def test_a_disk_that_fills_up_within_the_last_piece_cuts_no_upload_short(service: Service) -> None:
    config, chunk = transcription(b"x")[0], pb.TranscribeRequest(chunk=bytes(10**6))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, usual[1]))
    try:
        with pytest.raises(RpcFault) as raised:
            await service.responses([config, chunk, chunk])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
    assert not kept_uploads(service.spool)


def kept_uploads(spool: Path) -> list[str]:
    """The files in a folder, and those without a name that this process, in which the service runs, still has open."""
    found = [str(path) for path in spool.iterdir()]
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(descriptor)
            found += [target] * target.startswith(str(spool) + "/")
    return found


async def test_uploads_keep_to_their_order_and_size(service: Service, tmp_path: Path) -> None:
    config, chunk = transcription(b"x" * 1000)
    cases = {
        "chunk first": ([chunk, config], "config"),
        "nothing": ([], "config"),
        "an empty message": ([pb.TranscribeRequest()], "config"),
        "two configurations": ([config, config], "file"),
        "a chunk that is too large": ([config, pb.TranscribeRequest(chunk=bytes(2**20 + 1))], "file"),
        "too much": ([config, *[pb.TranscribeRequest(chunk=bytes(10**6))] * 4], "file"),
    }
    for name, (messages, param) in cases.items():
        with pytest.raises(RpcFault) as raised:
            await service.responses(messages)
        assert raised.value.code == grpc.StatusCode.INVALID_ARGUMENT, name
        assert raised.value.details["param"] == param, name
    assert not kept_uploads(service.spool)


async def test_scribes_do_not_translate(service: Service, tmp_path: Path) -> None:
    config, *_ = transcription(b"", model="scribe")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in service.stub.Translate(iter([pb.TranslateRequest(config=config.config)])):
            pass
    assert from_rpc_error(raised.value).reason in ("UNSUPPORTED", "INVALID_AUDIO")


async def test_a_cancelled_call_frees_its_slot_and_its_file(service: Service, tmp_path: Path) -> None:
    call = service.stub.Transcribe(iter(transcription(wav(tmp_path, 90), temperature=0.0, language="en")))
    assert (await call.read()).WhichOneof("event") == "started"
    (loaded,) = service.host.loaded()
    assert loaded.gate.slots_used == 1
    call.cancel()
    await eventually(lambda: not loaded.gate.slots_used and not kept_uploads(service.spool))
    await eventually(lambda: loaded.worker.gauges.get("running") == 0)
    assert (await service.transcribe(wav(tmp_path, 2)))[-1].HasField("summary")


async def test_a_client_that_goes_while_it_uploads_leaves_nothing_behind(service: Service, tmp_path: Path) -> None:
    await service.transcribe(wav(tmp_path, 1))

    async def stalled() -> AsyncIterator[pb.TranscribeRequest]:
        for message in transcription(wav(tmp_path, 20))[:3]:
            yield message
        await asyncio.sleep(60)

    call = service.stub.Transcribe(stalled())
    await eventually(lambda: kept_uploads(service.spool))
    call.cancel()
    await eventually(lambda: not kept_uploads(service.spool))
    assert service.host.loaded()[0].gate.slots_used == 0


async def test_a_deadline_ends_the_call(service: Service, tmp_path: Path) -> None:
    await service.transcribe(wav(tmp_path, 1))

    async def stalled() -> AsyncIterator[pb.TranscribeRequest]:
        yield transcription(b"")[0]
        await asyncio.sleep(60)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in service.stub.Transcribe(stalled(), timeout=0.5):
            pass
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: not kept_uploads(service.spool))


async def test_a_killed_worker_is_a_clear_error_and_comes_back(service: Service, tmp_path: Path) -> None:
    call = service.stub.Transcribe(iter(transcription(wav(tmp_path, 90), temperature=0.0)))
    await call.read()
    (loaded,) = service.host.loaded()
    assert loaded.worker.pid
    os.kill(loaded.worker.pid, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_to_the_end(call)
    assert from_rpc_error(raised.value).reason == "ENGINE_CRASHED"
    assert (await service.transcribe(wav(tmp_path, 2)))[-1].HasField("summary")
    assert not kept_uploads(service.spool)
