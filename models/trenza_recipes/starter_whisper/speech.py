"""The synthesiser of the training speech: espeak-ng, with the time of every word and every sound."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples per second of everything here."""
SOUND_CLASSES = 96
"""How many classes the phonemes of all voices are sorted into (by a hash, so a few share one)."""

Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Manner:
    """How something is said: an espeak-ng voice, words per minute, pitch and its range (0 to 99), gap between words (10 ms)."""

    voice: str
    words_per_minute: float = 175
    pitch: float = 50
    pitch_range: float = 50
    gap: int = 0


@dataclass(frozen=True, slots=True)
class Utterance:
    """A peak-normalised wave without silence around it; the start of each word and (start, class) of each phoneme, in seconds."""

    wave: Wave
    word_starts_s: tuple[float, ...]
    sounds: tuple[tuple[float, int], ...]

    @property
    def length_s(self) -> float:
        return len(self.wave) / RATE


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("phoneme", ctypes.c_char * 8),
    )


_SYNCHRONOUS, _PHONEME_EVENTS, _DO_NOT_EXIT, _UTF8 = 2, 1, 0x8000, 1
_RATE, _PITCH, _RANGE, _GAP = 1, 3, 4, 7
_WORD, _PHONEME = 1, 7
_AUDIBLE = 0.02


def sound_class(phoneme: str) -> int:
    """The class of an espeak-ng phoneme, stress aside; 0 for a pause."""
    name = phoneme.strip("',%=;:")
    if not name or name.startswith("_"):
        return 0
    number: int = sum(ord(letter) * 31**place for place, letter in enumerate(name))
    return 1 + number % (SOUND_CLASSES - 1)


def smooth_length(length: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5, where Fourier transforms are fast."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def resampled(wave: Wave, from_rate: float) -> Wave:
    """The wave at RATE, through its spectrum."""
    padded = np.pad(wave, (0, smooth_length(len(wave)) - len(wave)))
    wanted = int(len(padded) * RATE / from_rate)
    spectrum = np.fft.rfft(padded)
    kept = np.zeros(wanted // 2 + 1, spectrum.dtype)
    common = min(len(kept), len(spectrum))
    kept[:common] = spectrum[:common]
    turned: Wave = np.fft.irfft(kept, wanted).astype(np.float32) * np.float32(wanted / len(padded))
    return turned


class Synthesiser:
    """espeak-ng inside this process, of which there can be only one; it may crash, so keep it in a child process."""

    def __init__(self) -> None:
        self._waves: list[Any] = []
        self._events: list[tuple[int, int, int, str]] = []
        shape = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = shape(self._take)
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        data = str(espeakng_loader.get_data_path()).encode()
        self._rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT | _PHONEME_EVENTS)
        if self._rate <= 0:
            raise RuntimeError(f"espeak-ng does not start: {self._rate}")
        self._library.espeak_SetSynthCallback(self._callback)
        place = (ctypes.c_uint, ctypes.c_int, ctypes.c_uint)
        pointers = (ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
        self._library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *place, *pointers]

    def _take(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._waves.append(np.ctypeslib.as_array(wave, (count,)).copy())
        place = 0
        while events and events[place].type:
            event = events[place]
            name = event.phoneme.decode("utf-8", "replace")
            self._events.append((event.type, event.text_position, event.sample, name))
            place += 1
        return 0

    def _raw(self, text: str, manner: Manner) -> Wave:
        if self._library.espeak_SetVoiceByName(manner.voice.encode()) != 0:
            raise ValueError(f"no such voice: {manner.voice}")
        for parameter, value in (
            (_RATE, manner.words_per_minute),
            (_PITCH, manner.pitch),
            (_RANGE, manner.pitch_range),
            (_GAP, manner.gap),
        ):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._waves.clear()
        self._events.clear()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._waves:
            raise ValueError(f"nothing to hear in {text!r}")
        return np.concatenate(self._waves).astype(np.float32) / np.float32(32768)

    def say(self, text: str, manner: Manner, stretch: float = 1.0) -> Utterance:
        """Say a text. `stretch` above 1 plays it faster and higher. Words are what stands between spaces.

        Raises ValueError for an unknown voice and for a text without sound.
        """
        wave = resampled(self._raw(text, manner), self._rate * stretch)
        loud = np.abs(wave)
        peak = float(loud.max())
        audible = np.nonzero(loud > peak * _AUDIBLE)[0]
        first, last = (int(audible[0]), int(audible[-1])) if len(audible) else (0, len(wave) - 1)

        def seconds(sample: int) -> float:
            return max(0.0, sample / self._rate / stretch - first / RATE)

        length_s = (last + 1 - first) / RATE
        begun = {position: seconds(sample) for kind, position, sample, _ in self._events if kind == _WORD}
        starts = _word_starts(text, begun, length_s)
        phonemes = ((sample, name) for kind, _, sample, name in self._events if kind == _PHONEME)
        sounds = tuple((seconds(sample), sound_class(name)) for sample, name in phonemes)
        return Utterance(wave[first : last + 1] / (peak + 1e-6), starts, sounds)


def _word_starts(text: str, begun: dict[int, float], length_s: float) -> tuple[float, ...]:
    """When each word starts; words that espeak-ng said as one share its time equally."""
    places: list[float | None] = []
    position = 1
    for word in text.split(" "):
        here = [start for place, start in begun.items() if position <= place < position + len(word)]
        places.append(min(here) if here else None)
        position += len(word) + 1
    places[0] = places[0] or 0.0
    return _filled(places, length_s)


def _filled(places: Sequence[float | None], end_s: float) -> tuple[float, ...]:
    known = [(i, start) for i, start in enumerate(places) if start is not None] + [(len(places), end_s)]
    filled: list[float] = []
    for (i, start), (j, following) in pairwise(known):
        filled += [start + (following - start) * k / (j - i) for k in range(j - i)]
    return tuple(filled)
