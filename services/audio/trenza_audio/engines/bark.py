"""Bark through `transformers`: speech that is sampled, in half precision on a GPU, or patiently on a CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BarkModel, BarkProcessor
from trenza_runtime.worker.engine import ModelFacts, ModelLoadError, ProgressReporter

from trenza_audio.speaking.casts import PRESET_FOLDER, presets_of
from trenza_audio.speaking.core.bark_cast import CHANCE
from trenza_audio.speaking.engine import BarkSpec, Device
from trenza_audio.speaking.stage import Line, Sound, SpeechEngine, SpeechFailed

log = logging.getLogger(__name__)

_MODEL: Any = BarkModel
_PROCESSOR: Any = BarkProcessor
"""Their own annotations are partial, and wrong where their decorators begin."""

_PAUSE_S = 0.25
"""Silence behind a sentence, as Bark's own examples for long texts have it."""
_PROMPTS = ("semantic_prompt", "coarse_prompt", "fine_prompt")
_SEEDS = 2**63
"""torch takes seeds below this."""


def load(spec: BarkSpec, report: ProgressReporter) -> SpeechEngine:
    """Loads a Bark from a folder or a hub. Raises ModelLoadError when that is not possible."""
    torch.set_num_threads(spec.threads)
    processor = _processor(spec.model)
    report(0.1)
    model = _model(spec.model, spec.device)
    report(1.0)
    device = "cuda:0" if model.device.type == "cuda" else "cpu"
    properties = {"engine": "bark", "device": device, "dtype": str(model.dtype).removeprefix("torch.")}
    memory_bytes = model.get_memory_footprint()
    return SpeechEngine(Bark(model, processor), ModelFacts(spec.slots, {device: memory_bytes}, properties))


def _processor(model: str) -> Any:
    try:
        processor = _PROCESSOR.from_pretrained(model)
        folder = Path(model)
        if processor.speaker_embeddings is None and folder.is_dir():
            # The presets' files without the list of them that the published models have.
            presets = {preset: _files_of(preset) for preset in presets_of(folder)}
            processor.speaker_embeddings = {"repo_or_path": model, **presets}
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"its tokenizer cannot be loaded: {error}", "MODEL_FILE_MISSING") from error
    return processor


def _files_of(preset: str) -> dict[str, str]:
    return {prompt: f"{PRESET_FOLDER}/{preset}_{prompt}.npy" for prompt in _PROMPTS}


def _model(model: str, device: Device) -> Any:
    """The model where it is to run; "auto" takes a GPU unless there is no room on it."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelLoadError("there is no GPU", "NO_CAPACITY")
    try:
        if device != "cpu" and torch.cuda.is_available():
            try:
                return _MODEL.from_pretrained(model, dtype=torch.float16).to("cuda").eval()
            except torch.cuda.OutOfMemoryError:
                if device == "cuda":
                    raise ModelLoadError("there is no room for it on the GPU", "OUT_OF_MEMORY") from None
                log.warning("no room on the GPU, it runs on the CPU")
        return _MODEL.from_pretrained(model, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"its weights cannot be loaded: {error}", "MODEL_FILE_MISSING") from error


class _Stopped(Exception):
    """Nobody wants this piece any more."""


class Bark:
    """A Bark and its presets."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor
        self._stopped: Callable[[], bool] = lambda: False
        # `generate` passes no stopping criteria on to the last of the three models; this ends each within one of its passes.
        for part in (model.semantic, model.coarse_acoustics, model.fine_acoustics):
            part.register_forward_pre_hook(self._check)

    @property
    def sample_rate_hz(self) -> int:
        """The codec's, 24,000 in the published models."""
        return int(self._model.generation_config.sample_rate)

    @property
    def speeds(self) -> tuple[float, float]:
        """It speaks as fast as it likes."""
        return 1.0, 1.0

    def speak(self, line: Line, stopped: Callable[[], bool]) -> Sound:
        """Samples a piece."""
        self._stopped = stopped
        torch.manual_seed(line.seed % _SEEDS) if line.seed is not None else torch.seed()
        inputs = self._inputs(line)
        try:
            samples = self._model.generate(**inputs, **_sampling(line.temperature))
        except _Stopped:
            return Sound(np.zeros(0, np.float32))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise SpeechFailed("OUT_OF_MEMORY", "The GPU has too little memory left for this text.") from None
        wave: NDArray[np.float32] = samples.reshape(-1).float().cpu().numpy()
        tokens = int(inputs["attention_mask"].sum())
        frames = len(wave) * self._model.config.codec_config.frame_rate // self.sample_rate_hz
        pause = np.zeros(round(_PAUSE_S * self.sample_rate_hz), np.float32)
        return Sound(np.concatenate([wave, pause]), prompt_tokens=tokens, completion_tokens=int(frames))

    def close(self) -> None:
        """Lets go of the weights."""
        self._model = self._processor = None

    def _inputs(self, line: Line) -> Any:
        preset = None if line.voice == CHANCE else line.voice
        try:
            return self._processor(line.text, voice_preset=preset).to(self._model.device)
        except (OSError, ValueError, KeyError) as error:
            message = f"The voice {line.voice!r} cannot be loaded: {error}"
            raise SpeechFailed("INVALID_ARGUMENT", message, {"param": "voice"}) from error

    def _check(self, *_: object) -> None:
        if self._stopped():
            raise _Stopped


def _sampling(temperature: float | None) -> dict[str, Any]:
    """Arguments of `generate`; None leaves all to the model's own configuration."""
    if temperature is None:
        return {}
    if temperature == 0:
        return {"semantic_do_sample": False, "coarse_do_sample": False, "fine_temperature": 1.0}  # 1 is greedy there
    sampled = {f"{part}_do_sample": True for part in ("semantic", "coarse")}
    return {**sampled, "semantic_temperature": temperature, "coarse_temperature": temperature}
