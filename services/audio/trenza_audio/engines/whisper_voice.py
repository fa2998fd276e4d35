"""Hears whether somebody speaks: Silero's detector, fed as the sound comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper.utils import get_assets_path
from faster_whisper.vad import SileroVADModel
from numpy.typing import NDArray

from trenza_audio.hearing.core.voice import PIECE_SAMPLES

_MODEL = "silero_vad_v6.onnx"
_CONTEXT_SAMPLES = 64
_STATE = (1, 1, 128)
_FULL_SCALE = 32768.0


class VoiceModel:
    """The detector's network, which all requests share."""

    def __init__(self) -> None:
        self._session: Any = SileroVADModel(str(Path(get_assets_path()) / _MODEL)).session

    def listen(self) -> VoiceDetector:
        """A detector for one recording."""
        return VoiceDetector(self._session)


class VoiceDetector:
    """The probabilities of a voice along one recording."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._memory = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: NDArray[np.int16]) -> list[float]:
        """The probabilities of the pieces that these samples complete."""
        sound = np.concatenate([self._rest, samples.astype(np.float32) / np.float32(_FULL_SCALE)])
        whole = len(sound) // PIECE_SAMPLES * PIECE_SAMPLES
        self._rest = sound[whole:]
        return self._run(sound[:whole])

    def finish(self) -> list[float]:
        """The probability of what is left, filled up with silence."""
        return self._run(np.pad(self._rest, (0, PIECE_SAMPLES - len(self._rest))))

    def _run(self, sound: NDArray[np.float32]) -> list[float]:
        if not len(sound):
            return []
        pieces = sound.reshape(-1, PIECE_SAMPLES)
        contexts = np.concatenate([self._context[np.newaxis], pieces[:-1, -_CONTEXT_SAMPLES:]])
        self._context = pieces[-1, -_CONTEXT_SAMPLES:]
        hidden, cell = self._memory
        inputs = {"input": np.concatenate([contexts, pieces], axis=1), "h": hidden, "c": cell}
        probabilities, hidden, cell = self._session.run(None, inputs)
        self._memory = hidden, cell
        return [float(probability) for probability in np.asarray(probabilities).reshape(-1)]
