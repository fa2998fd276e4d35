"""The list of voices, in the manner of OpenAI's other lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from trenza.audio.v1 import audio_pb2

from trenza_gateway.openai.errors import bad_request
from trenza_gateway.openai.speech import LANGUAGE_PATTERN, MAX_LANGUAGE_CHARS


def wanted_language(said: str) -> str:
    """The language that voices are asked for, empty for all. Raises a 400 ApiError for what is no code of a language."""
    if said and (len(said) > MAX_LANGUAGE_CHARS or not re.fullmatch(LANGUAGE_PATTERN, said)):
        message = "Invalid value for 'language': it must be an ISO 639-1 code, such as 'en'."
        raise bad_request(message, param="language", code="invalid_value")
    return said.lower()


def voice_list(voices: Iterable[audio_pb2.Voice]) -> dict[str, Any]:
    """The object that `GET /v1/audio/voices` answers with."""
    return {"object": "list", "data": [_voice(voice) for voice in voices]}


def _voice(voice: audio_pb2.Voice) -> dict[str, Any]:
    return {
        "id": voice.name,
        "object": "voice",
        "name": voice.name,
        "model": voice.model,
        "languages": list(voice.languages),
        "aliases": list(voice.aliases),
        "description": voice.description,
    }
