"""Sounds for tests: tones, noise and speech, and files of every format that hold them."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
Samples = NDArray[np.int16]

FORMATS = {
    "flac": ("flac", "flac", 44100),
    "mp3": ("mp3", "libmp3lame", 44100),
    "mp4": ("mp4", "aac", 44100),
    "mpeg": ("mpeg", "mp2", 44100),
    "mpga": ("mp2", "mp2", 44100),
    "m4a": ("ipod", "aac", 48000),
    "ogg": ("ogg", "libopus", 48000),
    "opus": ("opus", "libopus", 48000),
    "wav": ("wav", "pcm_s16le", 16000),
    "webm": ("webm", "libopus", 48000),
}
"""By the endings that OpenAI's API names: container, codec, samples per second."""


def tones(seconds: float, seed: int = 0) -> Samples:
    """Tones that come and go above a little noise; another seed is another tune."""
    draw = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tune = sum(
        np.sin(2 * np.pi * pitch * time_s)
        * (np.sin(2 * np.pi * draw.uniform(0.2, 3) * time_s + draw.uniform(0, 6)) > 0)
        for pitch in draw.uniform(80, 3000, 6)
    )
    return (tune / 8 * 20_000 + draw.normal(size=len(time_s)) * 200).astype(np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), np.int16)


def noise(seconds: float, seed: int = 0) -> Samples:
    draw = np.random.default_rng(seed)
    return (draw.normal(size=round(seconds * RATE_HZ)) * 300).astype(np.int16)


def write_wav(path: Path, samples: Samples, channels: int = 1, rate_hz: int = RATE_HZ) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.repeat(samples, channels).tobytes())
    return path


def write_as(path: Path, samples: Samples, kind: str) -> Path:
    """Writes a file of one of `FORMATS`."""
    container_name, codec, rate_hz = FORMATS[kind]
    with av.open(str(path), "w", format=container_name) as container:
        stream: Any = container.add_stream(codec, rate=rate_hz)
        stream.layout = "mono"
        encoder = stream.codec_context
        resampler = av.AudioResampler(encoder.format, "mono", rate_hz, frame_size=encoder.frame_size or 1024)
        whole = av.AudioFrame.from_ndarray(samples[np.newaxis, :], format="s16", layout="mono")
        whole.sample_rate = RATE_HZ
        for frame in [*resampler.resample(whole), *resampler.resample(None)]:
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def speech(text: str) -> Samples:
    """A text spoken by espeak-ng, in a process of its own: the library has one state for all who use it."""
    spoken = subprocess.run([sys.executable, __file__, text], capture_output=True, check=True, timeout=60)
    return np.frombuffer(spoken.stdout, np.int16)


def _say(text: str) -> Samples:
    import ctypes

    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0x8000)
    pieces: list[Samples] = []
    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def take(samples: object, count: int, _: object) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = callback_type(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(b"en-us")
    encoded = text.encode() + b"\0"
    arguments = ctypes.c_char_p(encoded), ctypes.c_size_t(len(encoded)), 0, 1, 0, 1, None, None
    library.espeak_Synth(*arguments)
    library.espeak_Synchronize()
    spoken = np.concatenate(pieces)
    wanted = np.linspace(0, len(spoken) - 1, round(len(spoken) / rate_hz * RATE_HZ))
    return np.interp(wanted, np.arange(len(spoken)), spoken).astype(np.int16)


if __name__ == "__main__":
    sys.stdout.buffer.write(_say(sys.argv[1]).tobytes())
