"""What /docs says about the audio endpoints."""

from __future__ import annotations

from typing import Any

from trenza_gateway.openai.audio_requests import HearingBody
from trenza_gateway.openai.speech import SpeechBody

REF_TEMPLATE = "#/components/schemas/{model}"

_SPEECH_EXAMPLES = {
    "speech": {
        "summary": "A sentence, as MP3",
        "value": {"model": "starter-voice", "input": "Today is Monday.", "voice": "alloy"},
    },
    "spanish": {
        "summary": "Spanish, as WAV, a little slower",
        "value": {
            "model": "starter-voice",
            "input": "Hoy es lunes.",
            "voice": "nova",
            "language": "es",
            "response_format": "wav",
            "speed": 0.9,
        },
    },
    "events": {
        "summary": "As events while it is spoken",
        "value": {
            "model": "starter-voice",
            "input": "One, two, three.",
            "voice": "alloy",
            "response_format": "pcm",
            "stream_format": "sse",
        },
    },
}

_HEARING_EXAMPLES = {
    "text": {"summary": "The text", "value": {"model": "starter-whisper"}},
    "words": {
        "summary": "Segments and words with their times",
        "value": {
            "model": "starter-whisper",
            "response_format": "verbose_json",
            "timestamp_granularities": ["segment", "word"],
        },
    },
    "stream": {"summary": "Streamed", "value": {"model": "starter-whisper", "stream": True}},
}


def _json_body(name: str, examples: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": REF_TEMPLATE.format(model=name)}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _form_body(name: str, examples: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": REF_TEMPLATE.format(model=name)}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def _heard(answers: dict[str, str]) -> dict[str, Any]:
    content = {
        media_type: {"schema": {"type": "string"}, "example": example} for media_type, example in answers.items()
    }
    return {"responses": {"200": {"description": "The text", "content": content}}}


_TRANSCRIPTS = _heard(
    {
        "application/json": '{"text":"Hoy es lunes.","usage":{"type":"duration","seconds":1.2}}',
        "text/plain": "Hoy es lunes.\n",
        "text/vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.200\nHoy es lunes.\n",
        "text/event-stream": 'data: {"type":"transcript.text.delta","delta":"Hoy es lunes."}\n\n',
    }
)

TRANSCRIPTION_DOCUMENTATION = {**_form_body("HearingBody", _HEARING_EXAMPLES), **_TRANSCRIPTS}
TRANSLATION_DOCUMENTATION = {**_form_body("HearingBody", _HEARING_EXAMPLES), **_TRANSCRIPTS}
SPEECH_DOCUMENTATION = {
    **_json_body("SpeechBody", _SPEECH_EXAMPLES),
    "responses": {
        "200": {
            "description": "The sound, while it is made",
            "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}, "text/event-stream": {}},
        }
    },
}


def audio_schemas() -> dict[str, Any]:
    """The schemas that the documentation refers to, by name."""
    schemas: dict[str, Any] = {}
    for body in (HearingBody, SpeechBody):
        schema = body.model_json_schema(ref_template=REF_TEMPLATE)
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
    form = schemas["HearingBody"]
    file = {
        "type": "string",
        "format": "binary",
        "description": "The sound: flac, mp3, mp4, m4a, ogg, opus, wav, webm …",
    }
    form["properties"] = {"file": file, **form["properties"]}
    form["required"] = ["file", *form["required"]]
    return schemas
