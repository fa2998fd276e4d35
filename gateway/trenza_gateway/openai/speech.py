"""Speech: OpenAI's request as a proto, and the replica's sound as bytes or as events."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from trenza.audio.v1 import audio_pb2

from trenza_gateway.openai.answers import AnswerError
from trenza_gateway.openai.bodies import ModelBody, Seed
from trenza_gateway.openai.encoding import event
from trenza_gateway.openai.fields import HONOURED, Rule

MAX_INPUT_CHARS = 4096
MAX_VOICE_CHARS = 128
MAX_LANGUAGE_CHARS = 16
LANGUAGE_PATTERN = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$"

FORMATS = {
    "mp3": audio_pb2.AUDIO_FORMAT_MP3,
    "opus": audio_pb2.AUDIO_FORMAT_OPUS,
    "aac": audio_pb2.AUDIO_FORMAT_AAC,
    "flac": audio_pb2.AUDIO_FORMAT_FLAC,
    "wav": audio_pb2.AUDIO_FORMAT_WAV,
    "pcm": audio_pb2.AUDIO_FORMAT_PCM,
}
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


def _voice(said: Any) -> Any:
    """A voice may also be an object with its `id`."""
    if not isinstance(said, dict):
        return said
    if set(said) != {"id"}:
        raise ValueError('it must be a name or an object such as {"id": "alloy"}')
    return said["id"]


_VOICE_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": False},
    ]
}


class SpeechBody(ModelBody):
    """The body of `POST /v1/audio/speech`."""

    input: str = Field(min_length=1, max_length=MAX_INPUT_CHARS)
    voice: Annotated[
        str,
        Field(min_length=1, max_length=MAX_VOICE_CHARS),
        BeforeValidator(_voice),
        WithJsonSchema(_VOICE_SCHEMA),
    ]
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float | None = Field(default=None, ge=0.25, le=4)
    instructions: str | None = Field(
        default=None, max_length=MAX_INPUT_CHARS, description="How to speak, for models that follow such instructions."
    )
    stream_format: Literal["audio", "sse"] | None = None
    language: str | None = Field(
        default=None,
        max_length=MAX_LANGUAGE_CHARS,
        pattern=LANGUAGE_PATTERN,
        description="Beyond OpenAI: ISO 639-1; the voice's own, or the text's as detected, where it is not given.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Beyond OpenAI: randomness, for models that sample."
    )
    seed: Seed | None = Field(
        default=None, description="Beyond OpenAI: the same seed gives the same sound again, for models that sample."
    )


SPEECH_FIELDS: Mapping[str, Rule] = dict.fromkeys(SpeechBody.model_fields, HONOURED)


def speech_request(body: SpeechBody) -> audio_pb2.SpeakRequest:
    """The proto of a request, without its context."""
    return audio_pb2.SpeakRequest(
        input=body.input,
        voice=body.voice,
        language=(body.language or "").lower(),
        format=FORMATS[body.response_format],
        speed=body.speed,
        instructions=body.instructions or "",
        temperature=body.temperature,
        seed=body.seed,
    )


class Sound:
    """Takes the bytes of the sound out of a replica's messages."""

    def __init__(self) -> None:
        self._complete = False

    def chunk(self, message: audio_pb2.SpeakResponse) -> bytes:
        """The next bytes; empty where the message carries none."""
        if message.WhichOneof("event") == "summary":
            self._complete = True
        return message.chunk

    def end(self) -> None:
        """Raises AnswerError when the replica ended before all was spoken."""
        if not self._complete:
            raise AnswerError("the replica ended the speech before its summary")


class SpeechEvents:
    """Turns a replica's messages into events: the sound piece by piece, and at the end what it took."""

    def __init__(self) -> None:
        self._summary: audio_pb2.SpeechSummary | None = None

    def frames(self, message: audio_pb2.SpeakResponse, part: int = 0) -> bytes:
        """The event of the next message; empty where it carries no sound."""
        if message.WhichOneof("event") == "summary":
            self._summary = message.summary
        if not message.chunk:
            return b""
        return event({"type": "speech.audio.delta", "audio": b64encode(message.chunk).decode()})

    def end(self) -> bytes:
        """The event that ends the stream. Raises AnswerError when the replica ended before all was spoken."""
        if self._summary is None:
            raise AnswerError("the replica ended the speech before its summary")
        return event({"type": "speech.audio.done", "usage": _usage(self._summary)})


def _usage(summary: audio_pb2.SpeechSummary) -> dict[str, Any]:
    """OpenAI's figures, which are 0 where the model counts no tokens, and those that every model has."""
    tokens = summary.usage
    return {
        "input_tokens": tokens.prompt_tokens,
        "output_tokens": tokens.completion_tokens,
        "total_tokens": tokens.prompt_tokens + tokens.completion_tokens,
        "input_characters": summary.input_characters,
        "seconds": round(summary.duration_s, 6),
    }
