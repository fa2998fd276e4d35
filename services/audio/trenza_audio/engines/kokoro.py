"""Kokoro through `kokoro-onnx`: small, and faster than speech on a CPU.

Its phonemes come from espeak-ng by way of `phonemizer`, both under the GPL, version 3, both installed separately and loaded at run
time inside this worker process only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from kokoro_onnx import SAMPLE_RATE, Kokoro
from trenza_runtime.worker.engine import ModelFacts, ModelLoadError, ProgressReporter

from trenza_audio.speaking.engine import KokoroSpec
from trenza_audio.speaking.stage import Line, Sound, SpeechEngine, SpeechFailed

_SPEEDS = (0.5, 2.0)
"""What kokoro-onnx accepts."""
_PAUSE_S = 0.25
"""Silence behind a sentence: kokoro-onnx trims what the model itself leaves there."""
_MEMORY_FACTOR = 1.3
"""What a session holds, against the size of its file."""


def load(spec: KokoroSpec, report: ProgressReporter) -> SpeechEngine:
    """Loads the graph and its voices. Raises ModelLoadError when that is not possible."""
    session = _session(spec)
    report(0.9)
    try:
        synthesiser = KokoroVoices(Kokoro.from_session(session, spec.voices))
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelLoadError(f"its voices cannot be loaded: {error}") from error
    report(1.0)
    provider = session.get_providers()[0]
    device = "cuda:0" if provider.startswith("CUDA") else "cpu"
    memory_bytes = int((Path(spec.model).stat().st_size + Path(spec.voices).stat().st_size) * _MEMORY_FACTOR)
    properties = {"engine": "kokoro-onnx", "sample_rate_hz": str(SAMPLE_RATE), "device": device}
    return SpeechEngine(synthesiser, ModelFacts(spec.slots, {device: memory_bytes}, properties))


def _session(spec: KokoroSpec) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if spec.device == "cuda" and not gpu:
        raise ModelLoadError("there is no GPU that the installed onnxruntime can use", "NO_CAPACITY")
    on_gpu = gpu and spec.device != "cpu"
    try:
        # Where the GPU turns out to be missing or full, onnxruntime itself goes on with the next provider.
        providers = [*(["CUDAExecutionProvider"] if on_gpu else []), "CPUExecutionProvider"]
        return onnxruntime.InferenceSession(spec.model, options, providers=providers)
    except Exception as error:  # onnxruntime's own exceptions have no base class that it publishes
        raise ModelLoadError(f"onnxruntime cannot load {Path(spec.model).name}: {error}") from error


class KokoroVoices:
    """A Kokoro and its voices."""

    def __init__(self, kokoro: Kokoro) -> None:
        self._kokoro = kokoro
        speed = next((entry.type for entry in kokoro.sess.get_inputs() if entry.name == "speed"), "")
        self._speeds = (1.0, 1.0) if "int" in speed else _SPEEDS  # some exports know whole speeds only

    @property
    def sample_rate_hz(self) -> int:
        """24,000."""
        return int(SAMPLE_RATE)

    @property
    def speeds(self) -> tuple[float, float]:
        """What the graph can be asked for."""
        return self._speeds

    def speak(self, line: Line, stopped: Callable[[], bool]) -> Sound:
        """Speaks a piece; one without any phoneme is silent."""
        if line.voice not in self._kokoro.voices:
            raise SpeechFailed("INVALID_ARGUMENT", f"There is no voice {line.voice!r}.", {"param": "voice"})
        phonemes = self._kokoro.tokenizer.phonemize(line.text, line.language)
        if not phonemes or stopped():
            return Sound(np.zeros(0, np.float32))
        samples, _ = self._kokoro.create(phonemes, line.voice, line.speed, line.language, is_phonemes=True)
        pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE / line.speed), np.float32)
        return Sound(np.concatenate([np.asarray(samples, np.float32).reshape(-1), pause]))

    def close(self) -> None:
        """Nothing to do: the process ends, and the session with it."""
