"""Configurations become engine requests."""

from __future__ import annotations

from typing import Any

import pytest
from trenza.audio.v1 import audio_pb2 as pb
from trenza_audio.hearing.engine import Advanced, VoiceActivity
from trenza_audio.hearing.translate import Answer, hear_request
from trenza_runtime.errors import RpcFault


def config(**fields: Any) -> pb.TranscriptionConfig:
    return pb.TranscriptionConfig(**fields)


def strategy(**fields: Any) -> pb.ChunkingStrategy:
    return pb.ChunkingStrategy(voice_activity=pb.VoiceActivityChunking(**fields))


CHUNKING: dict[str, tuple[pb.TranscriptionConfig, Any]] = {
    "nothing said": (config(), "none"),
    "a strategy that says nothing": (config(chunking_strategy=pb.ChunkingStrategy()), "auto"),
    "automatic": (config(chunking_strategy=pb.ChunkingStrategy(automatic=pb.AutomaticChunking())), "auto"),
    "voice activity": (config(chunking_strategy=strategy()), VoiceActivity()),
    "a threshold": (config(chunking_strategy=strategy(threshold=0.25)), VoiceActivity(threshold=0.25)),
    "no padding": (config(chunking_strategy=strategy(prefix_padding_ms=0)), VoiceActivity(prefix_padding_ms=0)),
    "what ends a passage": (
        config(chunking_strategy=strategy(silence_duration_ms=700)),
        VoiceActivity(silence_duration_ms=700, gathers=False),
    ),
}


@pytest.mark.parametrize("case", CHUNKING)
def test_strategies_say_how_sound_is_cut(case: str) -> None:
    asked, chunking = CHUNKING[case]
    assert hear_request(asked, "transcribe", "/x").chunking == chunking


@pytest.mark.parametrize(
    ("asked", "language"), [("", ""), ("en", "en"), ("ES", "es"), ("pt-BR", "pt"), ("zh_Hans", "zh"), ("yue", "yue")]
)
def test_languages_are_codes_without_a_region(asked: str, language: str) -> None:
    assert hear_request(config(language=asked), "transcribe", "/x").language == language


@pytest.mark.parametrize("asked", ["english", "e", "-", "日本", "e1", " "])
def test_what_is_no_code_is_named(asked: str) -> None:
    with pytest.raises(RpcFault) as raised:
        hear_request(config(language=asked), "transcribe", "/x")
    assert raised.value.details["param"] == "language"


def test_no_temperature_leaves_it_to_the_model() -> None:
    assert hear_request(config(), "transcribe", "/x").temperature is None
    assert hear_request(config(temperature=0.0), "transcribe", "/x").temperature == 0.0


def test_progress_counts_seconds() -> None:
    answer = Answer(pb.TranscribeResponse)
    known = answer.message(Advanced(30.0, 120.0), 0).progress
    assert (known.fraction, known.step, known.steps) == (0.25, 30, 120)
    unknown = answer.message(Advanced(30.0, 0.0), 0).progress
    assert (unknown.fraction, unknown.step, unknown.steps) == (0.0, 30, 0)
    assert answer.message(Advanced(31.0, 30.0), 0).progress.fraction == 1.0
