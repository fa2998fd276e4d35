"""What forms of `/v1/audio/transcriptions` and `/v1/audio/translations` may say, and the proto that they become."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2

from trenza_gateway.openai.audio_languages import code_of
from trenza_gateway.openai.bodies import ModelBody, Strict, parse_form
from trenza_gateway.openai.errors import ApiError, bad_request
from trenza_gateway.openai.fields import HONOURED, Rule

MAX_PROMPT_CHARS = 10_000
MAX_HOTWORDS = 128
MAX_HOTWORD_CHARS = 128
MAX_PADDING_MS = 30_000

_LISTS = frozenset(
    {
        *("timestamp_granularities", "include", "hotwords", "keywords", "languages"),
        *("known_speaker_names", "known_speaker_references"),
    }
)
_GRANULARITIES = {
    "word": audio_pb2.TIMESTAMP_GRANULARITY_WORD,
    "segment": audio_pb2.TIMESTAMP_GRANULARITY_SEGMENT,
}
_STREAMABLE = frozenset({"json", "text"})


def _chunking(said: Any) -> Any:
    """Forms carry an object as JSON."""
    if not isinstance(said, str):
        return said
    if said == "auto":
        return {"type": "auto"}
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError('it must be "auto" or a JSON object such as {"type": "server_vad"}')
    return found


def _no_speakers(said: Any) -> Any:
    if said == "diarized_json":
        raise ValueError("the models served here do not tell speakers apart")
    return said


class ChunkingStrategy(Strict):
    """How the sound is cut before recognition."""

    type: Literal["auto", "server_vad"]
    threshold: float | None = Field(default=None, ge=0, le=1)
    prefix_padding_ms: int | None = Field(default=None, ge=0, le=MAX_PADDING_MS)
    silence_duration_ms: int | None = Field(default=None, ge=0, le=MAX_PADDING_MS)


_Language = Annotated[str, AfterValidator(code_of)]
_Words = Annotated[
    list[Annotated[str, Field(max_length=MAX_HOTWORD_CHARS)]], Field(max_length=MAX_HOTWORDS, fail_fast=True)
]


class HearingBody(ModelBody):
    """The fields of a transcription or a translation, beside the file."""

    language: _Language | None = Field(default=None, description="ISO 639-1; detected where it is not given.")
    prompt: str | None = Field(default=None, max_length=MAX_PROMPT_CHARS)
    temperature: float | None = Field(default=None, ge=0, le=1)
    response_format: Annotated[Literal["json", "text", "srt", "verbose_json", "vtt"], BeforeValidator(_no_speakers)] = (
        "json"
    )
    timestamp_granularities: list[Literal["word", "segment"]] | None = Field(
        default=None, description="Only with `verbose_json`; segments where it is not given."
    )
    chunking_strategy: Annotated[ChunkingStrategy, BeforeValidator(_chunking)] | None = None
    stream: bool | None = Field(default=None, description="Only with `json` and `text`.")
    include: list[Literal["logprobs"]] | None = Field(default=None, description="Only with `json`.")
    hotwords: _Words | None = Field(
        default=None, description="Beyond OpenAI: words that are likelier than usual, each a field or between commas."
    )
    keywords: _Words | None = Field(default=None, description="The same as `hotwords`.")
    languages: list[_Language] | None = Field(default=None, description="One language at most, as `language`.")

    @property
    def wants_logprobs(self) -> bool:
        """Whether the probabilities of tokens are wanted."""
        return bool(self.include)

    @property
    def wants_words(self) -> bool:
        """Whether timed words are wanted."""
        return "word" in (self.timestamp_granularities or ())

    @property
    def wants_segments(self) -> bool:
        """Whether timed segments are wanted."""
        return not self.timestamp_granularities or "segment" in self.timestamp_granularities


_NO_SPEAKERS = Rule(lambda value: not value, "the models served here do not tell speakers apart")

HEARING_FIELDS: Mapping[str, Rule] = {
    **dict.fromkeys(("file", *HearingBody.model_fields), HONOURED),
    "known_speaker_names": _NO_SPEAKERS,
    "known_speaker_references": _NO_SPEAKERS,
}


def hearing_body(fields: Mapping[str, Sequence[str]]) -> HearingBody:
    """Reads a form's fields. Raises a 400 ApiError that names the field that is wrong."""
    body = parse_form(HearingBody, _flat(fields), _LISTS)
    if body.timestamp_granularities and body.response_format != "verbose_json":
        raise _needs("timestamp_granularities", "verbose_json")
    if body.include and body.response_format != "json":
        raise _needs("include", "json")
    if body.stream and body.response_format not in _STREAMABLE:
        message = "A stream has the 'response_format' json or text."
        raise bad_request(message, param="response_format", code="unsupported_value")
    if len({*(body.languages or ()), *([body.language] if body.language else ())}) > 1:
        message = "Unsupported value for 'languages': name one language, or none to have it detected."
        raise bad_request(message, param="languages", code="unsupported_value")
    return body


def hearing_config(body: HearingBody, media: common_pb2.MediaDescription) -> audio_pb2.TranscriptionConfig:
    """The proto of a request, without its context."""
    return audio_pb2.TranscriptionConfig(
        media=media,
        language=body.language or next(iter(body.languages or ()), ""),
        prompt=body.prompt or "",
        # OpenAI's 0, which is also what clients send by default, leaves it to the model to try higher ones where 0 fails.
        temperature=body.temperature or None,
        timestamp_granularities=[_GRANULARITIES[name] for name in body.timestamp_granularities or ()],
        chunking_strategy=_chunking_proto(body.chunking_strategy),
        include_logprobs=body.wants_logprobs,
        hotwords=[
            word.strip()
            for text in (*(body.hotwords or ()), *(body.keywords or ()))
            for word in text.split(",")
            if word.strip()
        ],
    )


def _chunking_proto(said: ChunkingStrategy | None) -> audio_pb2.ChunkingStrategy | None:
    if said is None:
        return None
    if said.type == "auto":
        return audio_pb2.ChunkingStrategy(automatic=audio_pb2.AutomaticChunking())
    voice = audio_pb2.VoiceActivityChunking(
        threshold=said.threshold,
        prefix_padding_ms=said.prefix_padding_ms,
        silence_duration_ms=said.silence_duration_ms,
    )
    return audio_pb2.ChunkingStrategy(voice_activity=voice)


def _needs(param: str, response_format: str) -> ApiError:
    message = f"'{param}' needs the 'response_format' {response_format}."
    return bad_request(message, param=param, code="unsupported_value")


_NESTED = re.compile(r"chunking_strategy\[(\w{1,64})\]")


def _flat(fields: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The fields with `chunking_strategy[type]` and the like, as OpenAI's clients write objects into forms, as one field."""
    flat: dict[str, Sequence[str]] = {}
    parts: dict[str, str] = {}
    for name, texts in fields.items():
        nested = _NESTED.fullmatch(name)
        if nested is None:
            flat[name] = texts
        else:
            parts[nested[1]] = texts[-1]
    if parts:
        flat["chunking_strategy"] = [*flat.get("chunking_strategy", ()), json.dumps(parts)]
    return flat
