"""What tests can tell of a sound: how long it is, how loud, and how high."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
PCM_RATE_HZ = 24_000


def decoded(sound: bytes, form: str) -> tuple[Wave, int]:
    """The samples of a sound within ±1 and their rate, as PyAV reads it."""
    if form == "pcm":
        return (np.frombuffer(sound, "<i2") / 32768).astype(np.float32), PCM_RATE_HZ
    with av.open(io.BytesIO(sound), "r") as container:
        frames: list[Any] = list(container.decode(audio=0))
    rate_hz = frames[0].sample_rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    parts = [out.to_ndarray().reshape(-1) for frame in [*frames, None] for out in resampler.resample(frame)]
    return np.concatenate(parts), rate_hz


def seconds(sound: bytes, form: str = "pcm") -> float:
    wave, rate_hz = decoded(sound, form)
    return len(wave) / rate_hz


def pitch_hz(wave: Wave, rate_hz: int) -> float:
    """The strongest frequency."""
    return float(np.argmax(np.abs(np.fft.rfft(wave))) * rate_hz / len(wave))


def loudness(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0


def sine(hz: float, duration_s: float, rate_hz: int) -> NDArray[np.int16]:
    moments = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (12_000 * np.sin(2 * np.pi * hz * moments)).astype(np.int16)
