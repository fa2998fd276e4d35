"""Audio replicas that do as they are told, a scheduler that knows who serves which model, and a gateway in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from fleet_fakes import FakeServer, Fleet, running_fleet
from trenza.audio.v1 import audio_pb2, audio_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

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


class FakeAudioReplica(FakeServer, audio_pb2_grpc.AudioServiceServicer):
    """An audio replica that follows its scripts."""

    SERVICE = "trenza.audio.v1.AudioService"
    MODALITY = common_pb2.MODALITY_AUDIO

    def __init__(self, replica_id: str, hears: str = HEARS, speaks: str = SPEAKS) -> None:
        super().__init__(replica_id)
        self.hears = hears
        self.speaks = speaks
        self.hear: HearScript = writes_down
        self.speak: SpeakScript = spells
        self.voices_fault: RpcFault | None = None
        self.uploads: list[Heard] = []
        self.spoken: list[audio_pb2.SpeakRequest] = []
        self.asked: list[audio_pb2.ListVoicesRequest] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        audio_pb2_grpc.add_AudioServiceServicer_to_server(self, server)

    async def Transcribe(self, requests: Any, context: Any) -> AsyncIterator[audio_pb2.TranscribeResponse]:
        async for message in self._hear(audio_pb2.TranscribeResponse, requests, context):
            yield message

    async def Translate(self, requests: Any, context: Any) -> AsyncIterator[audio_pb2.TranslateResponse]:
        async for message in self._hear(audio_pb2.TranslateResponse, requests, context):
            yield message

    async def Speak(self, request: audio_pb2.SpeakRequest, context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
        self.spoken.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        with self.counted():
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
        with self.counted():
            async for message in self.hear(answer, upload, requests):
                yield message

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


class AudioFleet(Fleet[FakeAudioReplica]):
    """A gateway with a fake scheduler and fake audio replicas behind it."""

    async def transcribe(self, content: bytes = SOUND, path: str = "transcriptions", **fields: Any) -> httpx.Response:
        """Uploads a sound with fields; a list becomes a field that comes several times."""
        return await self.client.post(
            f"/v1/audio/{path}", files={"file": ("hoy.wav", content, "audio/wav")}, data={"model": HEARS, **fields}
        )

    async def speak(self, text: str = "hello there", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/audio/speech", json=speech_body(text, **fields))


def speech_body(text: str = "hello there", **fields: Any) -> dict[str, Any]:
    """The body of a speech request."""
    return {"model": SPEAKS, "input": text, "voice": "alloy", **fields}


@asynccontextmanager
async def audio_fleet(*replicas: FakeAudioReplica, **settings: Any) -> AsyncIterator[AudioFleet]:
    """A running fleet; of one replica where none are given."""
    audio = list(replicas) or [FakeAudioReplica("audio-0")]
    async with running_fleet(AudioFleet, audio, **settings) as fleet:
        yield fleet
