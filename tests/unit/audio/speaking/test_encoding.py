"""Every format, decoded again by PyAV: the same sound comes out, and it comes out while the rest is still being made."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hearing import PCM_RATE_HZ, decoded, loudness, pitch_hz, sine
from trenza_audio.speaking.encoding import Tempo, encoder_for
from trenza_audio.speaking.engine import SoundFormat, sample_rate_of

FORMATS: tuple[SoundFormat, ...] = get_args(SoundFormat)
HZ, DURATION_S = 440.0, 2.5


def encode(form: SoundFormat, rate_hz: int, piece_samples: int) -> list[bytes]:
    samples = sine(HZ, DURATION_S, rate_hz)
    encoder = encoder_for(form, rate_hz)
    pieces = [encoder.feed(samples[at : at + piece_samples]) for at in range(0, len(samples), piece_samples)]
    return [*pieces, encoder.end()]


@pytest.mark.parametrize("rate_hz", [22_050, 24_000])
@pytest.mark.parametrize("form", FORMATS)
def test_a_sine_survives(form: SoundFormat, rate_hz: int) -> None:
    wave, decoded_hz = decoded(b"".join(encode(form, rate_hz, 4_000)), form)
    assert decoded_hz == sample_rate_of(form) == (48_000 if form == "opus" else 24_000)
    # MP3 and AAC say neither how much silence the encoder put in front nor how much it needed to fill the last frame.
    assert len(wave) / decoded_hz == pytest.approx(DURATION_S, abs=0.1 if form in ("mp3", "aac") else 0.01)
    assert pitch_hz(wave, decoded_hz) == pytest.approx(HZ, abs=1)
    assert loudness(wave) == pytest.approx(12_000 / 32_768 / 2**0.5, rel=0.1)


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_come_before_the_sound_is_complete(form: SoundFormat) -> None:
    *pieces, last = encode(form, 22_050, 5_500)
    assert all(pieces[:3])
    assert sum(map(len, pieces)) > 2 * len(last)


@pytest.mark.parametrize("form", FORMATS)
def test_the_beginning_is_a_sound_by_itself(form: SoundFormat) -> None:
    pieces = encode(form, 24_000, 12_000)
    wave, rate_hz = decoded(b"".join(pieces[:3]), form)
    assert len(wave) / rate_hz > 0.8
    assert pitch_hz(wave, rate_hz) == pytest.approx(HZ, abs=2)


@pytest.mark.parametrize("form", FORMATS)
def test_no_sound_and_little_sound(form: SoundFormat) -> None:
    encoder = encoder_for(form, 24_000)
    assert encoder.feed(np.zeros(0, np.int16)) + encoder.end() in (b"", encoder_for("wav", 24_000).end())
    short = encoder_for(form, 24_000)
    wave, _ = decoded(short.feed(sine(HZ, 0.01, 24_000)) + short.end(), form)
    assert len(wave) >= 200


def test_pcm_is_untouched_at_its_own_rate() -> None:
    samples = sine(HZ, 0.7, PCM_RATE_HZ)
    encoder = encoder_for("pcm", PCM_RATE_HZ)
    assert encoder.feed(samples) + encoder.end() == samples.tobytes()


@pytest.mark.parametrize("factor", [0.25, 0.6, 1.5, 4.0])
def test_tempo_changes_the_length_and_not_the_pitch(factor: float) -> None:
    samples = sine(HZ, 2.0, 24_000)
    tempo = Tempo(factor, 24_000)
    parts = [tempo.feed(samples[:10_000]), tempo.feed(samples[10_000:]), tempo.end()]
    wave = np.concatenate(parts)
    assert len(wave) / 24_000 == pytest.approx(2.0 / factor, rel=0.04)
    assert pitch_hz(wave.astype(np.float32), 24_000) == pytest.approx(HZ, abs=4)
    assert len(parts[1])


def test_tempo_without_sound_or_sense() -> None:
    assert not len(Tempo(0.5, 24_000).end())
    with pytest.raises(ValueError, match="above 0"):
        Tempo(0, 24_000)
