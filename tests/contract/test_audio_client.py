"""The official OpenAI client on the audio endpoints: what its users do works as they expect."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from audio_fakes import CRASH, HEARS, SPEAKS, Heard, audio_fleet, read_all, segments, sound
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent, TranscriptionVerbose
from trenza.audio.v1 import audio_pb2

TEXT = "Hoy es <lunes> & one --> two."
BREAK_OFF = b"break off"


async def hears(answer: type, upload: Heard, requests: Any) -> AsyncIterator[Any]:
    """Writes down what it always does, except that it fails in the middle of one sound."""
    await read_all(upload, requests)
    for message in segments(answer):
        yield message
        if upload.sound == BREAK_OFF and message.WhichOneof("event") == "segment":
            raise CRASH


async def speaks(request: audio_pb2.SpeakRequest, _context: Any) -> AsyncIterator[audio_pb2.SpeakResponse]:
    """Speaks each word as its letters, except that it fails in the middle of one text."""
    for message in sound(*(word.encode() for word in request.input.split(" "))):
        yield message
        if request.input == BREAK_OFF.decode() and message.chunk:
            raise CRASH


@pytest.fixture(scope="module")
def audio_url() -> Iterator[str]:
    """A gateway in front of fake audio replicas, in a thread of its own, since the official client blocks."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with audio_fleet(audio_limit_bytes=2**20) as fleet:
            fleet.replicas[0].hear, fleet.replicas[0].speak = hears, speaks
            started.append(fleet.http_url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(30), "the fakes did not start"
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)


@pytest.fixture
def audio(audio_url: str) -> Iterator[openai.OpenAI]:
    """The official client, as its users make it."""
    with openai.OpenAI(base_url=f"{audio_url}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


class TestHearing:
    def test_json(self, audio: openai.OpenAI, tmp_path: Path) -> None:
        path = tmp_path / "hoy.wav"
        path.write_bytes(b"RIFF")
        with path.open("rb") as file:
            answer = audio.audio.transcriptions.create(model=HEARS, file=file)
        assert answer.text == TEXT
        assert answer.usage is not None
        assert answer.usage.type == "duration"
        assert answer.usage.seconds == 3603.0
        assert answer.logprobs is None

    def test_verbose_json(self, audio: openai.OpenAI) -> None:
        answer = audio.audio.transcriptions.create(
            model=HEARS,
            file=("hoy.wav", io.BytesIO(b"RIFF")),
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            language="es",
            prompt="Lunes",
            temperature=0.2,
        )
        assert isinstance(answer, TranscriptionVerbose)
        assert (answer.language, answer.duration, answer.text) == ("spanish", 3603.0, TEXT)
        assert answer.segments is not None
        assert answer.words is not None
        assert [segment.id for segment in answer.segments] == [0, 1]
        assert answer.segments[0].avg_logprob == -0.25
        assert answer.words[0].word == "Hoy"

    def test_texts(self, audio: openai.OpenAI) -> None:
        text = audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", response_format="text")
        assert text == f"{TEXT}\n"
        assert audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", response_format="srt").startswith("1\n")
        vtt = audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", response_format="vtt")
        assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> ")

    def test_logprobs_and_chunking(self, audio: openai.OpenAI) -> None:
        answer = audio.audio.transcriptions.create(
            model=HEARS,
            file=b"RIFF",
            include=["logprobs"],
            chunking_strategy={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 300},
        )
        assert answer.logprobs is not None
        assert answer.logprobs[0].logprob == -0.5
        assert answer.logprobs[0].bytes == list(b" Hoy es <lunes> &")
        assert audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", chunking_strategy="auto").text == TEXT

    def test_stream(self, audio: openai.OpenAI) -> None:
        stream = audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", stream=True, include=["logprobs"])
        *deltas, done = list(stream)
        assert all(isinstance(delta, TranscriptionTextDeltaEvent) for delta in deltas)
        assert isinstance(done, TranscriptionTextDoneEvent)
        assert "".join(delta.delta for delta in deltas if delta.type == "transcript.text.delta") == done.text == TEXT
        assert done.logprobs is not None
        assert len(done.logprobs) == 2
        assert done.usage is not None

    def test_translations(self, audio: openai.OpenAI) -> None:
        assert audio.audio.translations.create(model=HEARS, file=b"RIFF").text == TEXT
        verbose = audio.audio.translations.create(model=HEARS, file=b"RIFF", response_format="verbose_json")
        assert (verbose.language, verbose.text) == ("english", TEXT)
        text = audio.audio.translations.create(model=HEARS, file=b"RIFF", response_format="text", prompt="x")
        assert text == f"{TEXT}\n"

    def test_errors(self, audio: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as missing:
            audio.audio.transcriptions.create(model="gpt-9", file=b"RIFF")
        assert missing.value.param == "model"
        with pytest.raises(openai.BadRequestError) as wrong:
            audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", temperature=9)
        assert wrong.value.param == "temperature"
        with pytest.raises(openai.BadRequestError) as empty:
            audio.audio.transcriptions.create(model=HEARS, file=b"")
        assert empty.value.param == "file"
        with pytest.raises(openai.BadRequestError) as speakers:
            audio.audio.transcriptions.create(model=HEARS, file=b"RIFF", known_speaker_names=["agent"])
        assert speakers.value.param == "known_speaker_names"
        with pytest.raises(openai.APIStatusError) as large:
            audio.audio.transcriptions.create(model=HEARS, file=bytes(8 * 2**20))
        assert (large.value.status_code, large.value.param, large.value.code) == (413, "file", "upload_too_large")

    def test_a_stream_that_breaks_off(self, audio: openai.OpenAI) -> None:
        seen: list[Any] = []
        stream = audio.audio.transcriptions.create(model=HEARS, file=BREAK_OFF, stream=True)
        with pytest.raises(openai.APIError, match="The engine crashed"):
            seen.extend(stream)
        with pytest.raises(openai.InternalServerError):
            audio.audio.transcriptions.create(model=HEARS, file=BREAK_OFF)

    async def test_the_asynchronous_client(self, audio_url: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{audio_url}/v1", api_key="unused", max_retries=0) as client:
            answer = await client.audio.transcriptions.create(model=HEARS, file=b"RIFF")
            assert answer.text == TEXT
            stream = await client.audio.transcriptions.create(
                model=HEARS, file=b"RIFF", stream=True, response_format="text"
            )
            assert [event.type async for event in stream][-1] == "transcript.text.done"
            speech = await client.audio.speech.create(model=SPEAKS, input="hello there", voice="alloy")
            assert speech.content == b"hellothere"


class TestSpeaking:
    def test_a_sentence(self, audio: openai.OpenAI, tmp_path: Path) -> None:
        answer = audio.audio.speech.create(model=SPEAKS, input="hello there", voice="alloy", speed=1.25)
        assert answer.response.headers["content-type"] == "audio/mpeg"
        answer.write_to_file(tmp_path / "hello.mp3")
        assert (tmp_path / "hello.mp3").read_bytes() == b"hellothere"

    def test_streamed(self, audio: openai.OpenAI, tmp_path: Path) -> None:
        with audio.audio.speech.with_streaming_response.create(
            model=SPEAKS, input="hello there", voice={"id": "nova"}, response_format="pcm"
        ) as answer:
            assert answer.headers["content-type"] == "audio/pcm"
            assert b"".join(answer.iter_bytes()) == b"hellothere"

    def test_as_events(self, audio: openai.OpenAI) -> None:
        with audio.audio.speech.with_streaming_response.create(
            model=SPEAKS, input="hello there", voice="alloy", stream_format="sse", extra_body={"language": "en"}
        ) as answer:
            lines = [line for line in answer.iter_lines() if line]
        assert len(lines) == 3
        assert '"speech.audio.done"' in lines[-1]

    def test_errors(self, audio: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as wrong:
            audio.audio.speech.create(model=SPEAKS, input="x" * 4097, voice="alloy")
        assert wrong.value.param == "input"
        with pytest.raises(openai.NotFoundError):
            audio.audio.speech.create(model="gpt-9", input="x", voice="alloy")

    def test_sound_that_breaks_off_is_no_answer(self, audio: openai.OpenAI) -> None:
        with pytest.raises(openai.APIConnectionError):
            audio.audio.speech.create(model=SPEAKS, input="break off", voice="alloy")
