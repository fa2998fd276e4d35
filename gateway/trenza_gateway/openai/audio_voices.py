"""The list of voices, in the manner of OpenAI's other lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trenza.audio.v1 import audio_pb2


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
