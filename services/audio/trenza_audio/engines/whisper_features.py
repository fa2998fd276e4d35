"""Turns sound into the spectrogram that Whisper hears, a window at a time and with the numbers of the whole recording's."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from trenza_audio.hearing.core.segments import WINDOW_FRAMES

Spectrogram: TypeAlias = NDArray[np.float32]
"""Mel bands by frames."""

FRAME_SAMPLES = 160
MARGIN_FRAMES = 2
"""Frames on both sides of a window whose samples its own frames reach into."""
_PADDING_SAMPLES = 160
_FULL_SCALE = 32768.0
_FLOOR = 1e-10
_RANGE = 8.0
"""How far below the loudest point, in powers of ten, the spectrogram is cut off."""


class Features:
    """Computes spectrograms with so many mel bands."""

    def __init__(self, mels: int) -> None:
        extractor = FeatureExtractor(feature_size=mels)
        self._stft = extractor.stft
        self._filters = extractor.mel_filters
        self._hop, self._size = extractor.hop_length, extractor.n_fft
        self._taper = np.hanning(extractor.n_fft + 1)[:-1].astype(np.float32)

    def window(
        self, samples: NDArray[np.int16], lead: int, frames: int, is_end: bool, loudest: float
    ) -> tuple[Spectrogram, float]:
        """The spectrogram of one window, filled up to 30 seconds, and the loudest point up to here.

        `samples` begin `lead` frames before the window and reach `MARGIN_FRAMES` beyond it, or to the end of the sound
        (`is_end`). `loudest` is the loudest point before this window.
        """
        wave = samples.astype(np.float32) / np.float32(_FULL_SCALE)
        if is_end:
            wave = np.pad(wave, (0, _PADDING_SAMPLES))
        spectrum = self._stft(wave, self._size, self._hop, window=self._taper, return_complex=True)
        power = np.abs(spectrum.astype(np.complex64)[..., :-1]) ** 2
        log = np.log10(np.clip(self._filters @ power, a_min=_FLOOR, a_max=None))
        heard = log[:, lead:] if is_end else log[:, lead : lead + frames]
        loudest = max(loudest, float(heard.max()))
        scaled = (np.maximum(heard[:, :frames], np.float32(loudest - _RANGE)) + 4.0) / 4.0
        padded = np.zeros((log.shape[0], WINDOW_FRAMES), dtype=np.float32)
        padded[:, :frames] = scaled
        return padded, loudest
