"""The espeak-ng synthesiser: every language that its data carries, faster than speech by far, no download.

espeak-ng is a separate work under the GPL, version 3. Nothing of it is in this package: the shared library of the separately
installed `espeakng-loader` is loaded at run time, by this module only, inside a worker process of its own that the service
speaks to over a socket.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import espeakng_loader
import numpy as np
from trenza_runtime.worker.engine import ModelFacts, ModelLoadError, ProgressReporter

from trenza_audio.speaking.engine import EspeakSpec
from trenza_audio.speaking.stage import Line, Sound, SpeechEngine, SpeechFailed

# Numbers of espeak-ng's public header, speak_lib.h.
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF_8 = 1
_POSITION_CHARACTER = 1
_RATE, _PITCH = 1, 3

_RATES = (80, 700)
"""Words per minute that it speaks by itself: below it ignores the difference, above few people understand it."""
_MAX_PIECE_S = 300.0
"""No piece of a bounded number of characters takes longer; a library that goes on and on is stopped there."""

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def load(spec: EspeakSpec, report: ProgressReporter) -> SpeechEngine:
    """Loads the library. Raises ModelLoadError when it or its data is not there."""
    synthesiser = Espeak(spec)
    report(1.0)
    properties = {"engine": "espeak-ng", "sample_rate_hz": str(synthesiser.sample_rate_hz)}
    return SpeechEngine(synthesiser, ModelFacts(slots=spec.slots, memory_bytes={}, properties=properties))


class Espeak:
    """espeak-ng, which exists once in a process."""

    def __init__(self, spec: EspeakSpec) -> None:
        self._spec = spec
        self._pieces: list[bytes] = []
        self._samples = 0
        self._stopped: Callable[[], bool] = lambda: False
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
            data = espeakng_loader.get_data_path()
        except (OSError, RuntimeError) as error:
            raise ModelLoadError(f"espeak-ng cannot be loaded: {error}", "ENGINE_MISSING") from error
        self._rate_hz = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT))
        if self._rate_hz <= 0:
            raise ModelLoadError("espeak-ng does not accept its data", "ENGINE_MISSING")
        self._callback = _Callback(self._take)  # kept, or it would be freed while the library calls it
        self._library.espeak_SetSynthCallback(self._callback)

    @property
    def sample_rate_hz(self) -> int:
        """22,050 with every voice."""
        return self._rate_hz

    @property
    def speeds(self) -> tuple[float, float]:
        """What its range of words per minute comes to."""
        slowest, fastest = (rate / self._spec.words_per_minute for rate in _RATES)
        return slowest, fastest

    def speak(self, line: Line, stopped: Callable[[], bool]) -> Sound:
        """Speaks a piece in the voice that `line.language` names (`roa/es`, `gmw/en-US+f3`)."""
        self._pieces, self._samples, self._stopped = [], 0, stopped
        if self._library.espeak_SetVoiceByName(line.language.encode()):
            raise SpeechFailed("INVALID_ARGUMENT", f"espeak-ng has no voice {line.voice!r}.", {"param": "voice"})
        self._library.espeak_SetParameter(_RATE, round(line.speed * self._spec.words_per_minute), 0)
        self._library.espeak_SetParameter(_PITCH, self._spec.pitch, 0)
        text = line.text.encode()
        # Neither SSML nor phonemes in brackets: what looks like them is read out as any text.
        error = self._library.espeak_Synth(text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _UTF_8, None, None)
        if error:
            raise SpeechFailed("INTERNAL", f"espeak-ng failed with error {error}.")
        samples = np.frombuffer(b"".join(self._pieces), np.int16)
        return Sound(samples if samples.any() else samples[:0])  # a moment of silence stands for what it cannot say

    def close(self) -> None:
        """Frees the library's memory."""
        self._library.espeak_Terminate()

    def _take(self, samples: ctypes._Pointer[ctypes.c_short] | None, count: int, _events: int | None) -> int:
        """Receives sound from the library; 1 makes it stop."""
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * 2))
            self._samples += count
        return int(self._stopped() or self._samples > _MAX_PIECE_S * self._rate_hz)
