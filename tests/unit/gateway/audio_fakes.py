"""Audio replicas that do as they are told, a scheduler that knows who serves which model, and a gateway in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from gateway_fakes import FakeScheduler, eventually
from trenza.audio.v1 import audio_pb2, audio_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_gateway.gateway import Gateway
from trenza_gateway.settings import Settings
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.rpc.server import RpcServer, RpcService

HEARS = "starter-whisper"
SPEAKS = "starter-voice"

SOUND = b"RIFF" + bytes(range(256)) * 40

CRASH = RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.ENGINE_CRASHED, "The engine crashed.")
NOT_SOUND = RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, "This is no sound.", {"param": "file"})

Answer = Any
"""A TranscribeResponse or a TranslateResponse."""
HearScript = Callable[[type, "Heard", Any], AsyncIterator[Answer]]
SpeakScript = Callable[[audio_pb2.SpeakRequest, Any], AsyncIterator[audio_pb2.SpeakResponse]]


@dataclass
class Heard:
    """One upload as a replica received it."""

    config: audio_pb2.TranscriptionConfig
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def sound(self) -> bytes:
        return b"".join(self.chunks)


def segments(answer: type, with_details: bool = True) -> list[Answer]:
    """The messages of a transcript of two segments."""
    said = [
        (
            " Hoy es <lunes> &",
            0.0,
            1.25,
            [audio_pb2.TranscriptWord(word=" Hoy", start_s=0.0, end_s=0.5, probability=0.9)],
        ),
        (" one --> two.", 3601.5, 3602.75, [audio_pb2.TranscriptWord(word=" two.", start_s=3602.0, end_s=3602.75)]),
    ]
    messages: list[Answer] = [
        answer(started=audio_pb2.TranscriptStarted(language="es", language_probability=0.98, duration_s=3603.0)),
        answer(progress=common_pb2.Progress(fraction=0.5)),
    ]
    for number, (text, start_s, end_s, words) in enumerate(said):
        segment = audio_pb2.TranscriptSegment(
            id=number,
            start_s=start_s,
            end_s=end_s,
            text=text,
            tokens=[50364, number],
            temperature=0.2,
            mean_logprob=-0.25,
            compression_ratio=1.5,
            no_speech_probability=0.125,
            words=words if with_details else (),
            logprobs=[audio_pb2.TranscriptLogprob(token=text, token_bytes=text.encode(), logprob=-0.5)],
        )
        messages.append(answer(segment=segment))
    summary = audio_pb2.TranscriptSummary(
        text="Hoy es <lunes> & one --> two.", language="es", duration_s=3603.0, speech_s=2.5
    )
    return [*messages, answer(summary=summary)]


async def writes_down(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Answer]:
    """Hears the whole upload, then says what it always says."""
    await read_all(upload, requests)
    for message in segments(answer):
        yield message


async def read_all(upload: Heard, requests: Any) -> None:
    """Takes in the rest of an upload."""
    async for request in requests:
        assert request.WhichOneof("message") == "chunk"
        upload.chunks.append(request.chunk)
    upload.complete = True


def hearing_fails(fault: RpcFault, after_chunks: int | None = None, after_messages: int = 0) -> HearScript:
    """Fails with a fault after so many chunks (None: after all of them) and answers."""

    async def script(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Answer]:
        if after_chunks is None:
            await read_all(upload, requests)
        else:
            for _ in range(after_chunks):
                upload.chunks.append((await anext(requests)).chunk)
        for message in segments(answer)[:after_messages]:
            yield message
        raise fault

    return script


def sound(*chunks: bytes) -> list[audio_pb2.SpeakResponse]:
    """The messages of a speech."""
    started = audio_pb2.SpeechStarted(
        format=audio_pb2.AUDIO_FORMAT_MP3, sample_rate_hz=24_000, voice="en", language="en"
    )
    summary = audio_pb2.SpeechSummary(
        duration_s=1.5,
        input_characters=11,
        usage=common_pb2.TokenUsage(prompt_tokens=3, completion_tokens=7),
    )
    return [
        audio_pb2.SpeakResponse(started=started),
        audio_pb2.SpeakResponse(progress=common_pb2.Progress(fraction=0.1)),
        *(audio_pb2.SpeakResponse(chunk=chunk) for chunk in chunks),
        audio_pb2.SpeakResponse(summary=summary),
    ]


async def spells(request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
    """Speaks each word as its own letters."""
    for message in sound(*(word.encode() for word in request.input.split(" "))):
        yield message


def speaking_fails(fault: RpcFault, after_chunks: int = 0) -> SpeakScript:
    """Fails with a fault after so many pieces of sound; before anything is said where that is 0."""

    async def script(_request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        if after_chunks:
            for message in sound(*[b"la"] * after_chunks)[:-1]:
                yield message
        raise fault

    return script


class FakeAudioReplica(audio_pb2_grpc.AudioServiceServicer):
    """An audio replica that follows its scripts."""

    def __init__(self, replica_id: str, hears: str = HEARS, speaks: str = SPEAKS) -> None:
        self.replica_id = replica_id
        self.hears = hears
        self.speaks = speaks
        self.hear: HearScript = writes_down
        self.speak: SpeakScript = spells
        self.voices_fault: RpcFault | None = None
        self.uploads: list[Heard] = []
        self.spoken: list[audio_pb2.SpeakRequest] = []
        self.asked: list[audio_pb2.ListVoicesRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.running = 0
        self.cancelled = 0
        self.address = ""
        self._server: RpcServer | None = None

    async def start(self) -> None:
        service = RpcService(
            "trenza.audio.v1.AudioService",
            lambda server: audio_pb2_grpc.add_AudioServiceServicer_to_server(self, server),
        )
        self._server = RpcServer("127.0.0.1", 0, [service])
        self.address = f"127.0.0.1:{await self._server.start()}"

    async def die(self) -> None:
        """Stops at once; running calls break."""
        if self._server is not None:
            inner = self._server._server
            assert inner is not None
            await inner.stop(0)
            self._server = None

    async def Transcribe(self, requests: Any, context: Any) -> AsyncIterator[audio_pb2.TranscribeResponse]:
        async for message in self._hear(audio_pb2.TranscribeResponse, requests, context):
            yield message

    async def Translate(self, requests: Any, context: Any) -> AsyncIterator[audio_pb2.TranslateResponse]:
        async for message in self._hear(audio_pb2.TranslateResponse, requests, context):
            yield message

    async def Speak(self, request: audio_pb2.SpeakRequest, context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        self.spoken.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        with self._counted():
            async for message in self.speak(request, context):
                yield message

    async def ListVoices(self, request: audio_pb2.ListVoicesRequest, context: Any) -> audio_pb2.ListVoicesResponse:
        self.asked.append(request)
        if self.voices_fault is not None:
            raise self.voices_fault
        voices = [
            audio_pb2.Voice(name=f"{self.speaks}-es", model=self.speaks, languages=["es"], aliases=["nova"]),
            audio_pb2.Voice(
                name=f"{self.speaks}-en", model=self.speaks, languages=["en"], aliases=["alloy"], description="A voice."
            ),
        ]
        return audio_pb2.ListVoicesResponse(
            voices=[voice for voice in voices if request.language in ("", *voice.languages)]
        )

    async def _hear(self, answer: type, requests: Any, context: Any) -> AsyncIterator[Answer]:
        first = await anext(requests)
        assert first.WhichOneof("message") == "config"
        upload = Heard(first.config)
        self.uploads.append(upload)
        self.metadata.append(dict(context.invocation_metadata()))
        with self._counted():
            async for message in self.hear(answer, upload, requests):
                yield message

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):  # the latter while a message is being written
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    @property
    def models(self) -> list[common_pb2.Model]:
        offers = {
            self.hears: [common_pb2.CAPABILITY_TRANSCRIPTION, common_pb2.CAPABILITY_TRANSLATION],
            self.speaks: [common_pb2.CAPABILITY_SPEECH],
        }
        return [
            common_pb2.Model(
                name=name,
                modality=common_pb2.MODALITY_AUDIO,
                capabilities=capabilities,
                load_state=common_pb2.LOAD_STATE_LOADED,
                slots=4,
            )
            for name, capabilities in offers.items()
        ]

    def view(self) -> scheduler_pb2.ReplicaView:
        """The replica as a snapshot shows it."""
        state = scheduler_pb2.ReplicaState(
            replica_id=self.replica_id,
            generation=1,
            modality=common_pb2.MODALITY_AUDIO,
            address=self.address,
            models=[scheduler_pb2.ModelState(model=model) for model in self.models],
            queue_limit=8,
        )
        return scheduler_pb2.ReplicaView(state=state, health=scheduler_pb2.REPLICA_HEALTH_LIVE)


class AudioScheduler(FakeScheduler):
    """Grants a replica that serves the model."""

    def __init__(self, replicas: Any) -> None:
        super().__init__(replicas)
        self.serving: list[FakeAudioReplica] = list(replicas)

    def grant(self, ticket: scheduler_pb2.Ticket) -> scheduler_pb2.AdmitResponse | None:
        able: Any = [replica for replica in self.serving if ticket.model in {model.name for model in replica.models}]
        self.replicas[:] = able
        try:
            return super().grant(ticket)
        finally:
            everybody: Any = self.serving
            self.replicas[:] = everybody


@dataclass
class AudioFleet:
    """A gateway with a fake scheduler and fake audio replicas behind it."""

    scheduler: AudioScheduler
    replicas: list[FakeAudioReplica]
    gateway: Gateway
    client: httpx.AsyncClient = field(repr=False)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.gateway.grpc_port}"

    async def transcribe(self, content: bytes = SOUND, path: str = "transcriptions", **fields: Any) -> httpx.Response:
        """Uploads a sound with fields; a list becomes a field that comes several times."""
        return await self.client.post(
            f"/v1/audio/{path}", files={"file": ("hoy.wav", content, "audio/wav")}, data={"model": HEARS, **fields}
        )

    async def speak(self, text: str = "hello there", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/audio/speech", json=speech_body(text, **fields))

    def outcomes(self) -> list[str]:
        return [scheduler_pb2.Outcome.Name(release.outcome) for release in self.scheduler.releases]

    async def ready(self) -> None:
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self.client.get("/readyz")).status_code == 200


def speech_body(text: str = "hello there", **fields: Any) -> dict[str, Any]:
    """The body of a speech request."""
    return {"model": SPEAKS, "input": text, "voice": "alloy", **fields}


@asynccontextmanager
async def audio_fleet(*replicas: FakeAudioReplica, **settings: Any) -> AsyncIterator[AudioFleet]:
    """A running fleet; of one replica where none are given."""
    audio = list(replicas) or [FakeAudioReplica("audio-0")]
    for replica in audio:
        await replica.start()
    scheduler = AudioScheduler(list(audio))
    await scheduler.start()
    address = f"127.0.0.1:{scheduler.port}"
    gateway = Gateway(
        Settings(**{"http_port": 0, "grpc_port": 0, "scheduler_address": address, "drain_s": 1, **settings})
    )
    await gateway.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http_port}", timeout=30) as client:
        fleet = AudioFleet(scheduler, audio, gateway, client)
        try:
            await fleet.ready()
            yield fleet
        finally:
            await client.aclose()
            await gateway.drain()
            await scheduler.die()
            for replica in audio:
                await replica.die()
