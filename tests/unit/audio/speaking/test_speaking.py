"""Speaking over gRPC, with the real espeak-ng in its worker process."""

from __future__ import annotations

import pytest
from hearing import decoded, loudness
from talking import Talking, kinds, sound
from trenza.audio.v1 import audio_pb2 as pb

LONG = "This sentence is spoken again and again. " * 90
FORMATS = {
    "mp3": pb.AUDIO_FORMAT_MP3,
    "opus": pb.AUDIO_FORMAT_OPUS,
    "aac": pb.AUDIO_FORMAT_AAC,
    "flac": pb.AUDIO_FORMAT_FLAC,
    "wav": pb.AUDIO_FORMAT_WAV,
    "pcm": pb.AUDIO_FORMAT_PCM,
}


async def test_every_format_is_speech_of_the_same_length(service: Talking) -> None:
    lengths_s = {}
    for name, number in FORMATS.items():
        responses = await service.speak("Three blue squares. And one green star!", format=number)
        assert kinds(responses)[0] == "started"
        assert kinds(responses)[-1] == "summary"
        started, summary = responses[0].started, responses[-1].summary
        wave, rate_hz = decoded(sound(responses), name)
        assert (started.format, started.sample_rate_hz) == (number, rate_hz)
        assert (started.voice, started.language) == ("en-us", "en")
        assert loudness(wave) > 0.02
        assert len(wave) / rate_hz == pytest.approx(summary.duration_s, abs=0.12)
        lengths_s[name] = summary.duration_s
    assert max(lengths_s.values()) == pytest.approx(min(lengths_s.values()), abs=0.01)
    assert min(lengths_s.values()) > 1.5
