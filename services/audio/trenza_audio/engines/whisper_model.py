"""A Whisper in CTranslate2: what the engine asks of the device, in batches, and the words that its tokens stand for."""

from __future__ import annotations

import json
import logging
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ctranslate2
import numpy as np
import tokenizers
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from faster_whisper.utils import download_model
from numpy.typing import NDArray
from trenza_runtime.devices import Devices
from trenza_runtime.worker.engine import ModelLoadError

from trenza_audio.engines.whisper_features import Spectrogram
from trenza_audio.hearing.core.fallback import Attempt, mean_logprob
from trenza_audio.hearing.core.placement import NoPlace, Placement, place
from trenza_audio.hearing.core.segments import WINDOW_FRAMES, compression_ratio
from trenza_audio.hearing.engine import WhisperSpec

log = logging.getLogger(__name__)

Encoded: TypeAlias = NDArray[Any]
"""What the encoder made of one window."""

_CONTEXT_TOKENS = 448
_CANDIDATES = 5
"""Texts drawn at temperatures above 0, of which the best counts."""
_FIRST_TIMESTAMP_BY = 50
"""The first timestamp is at most a second after the window's start, in steps of 0.02 seconds."""
_FILTER_STEPS = 7
_USUAL_MELS = 80
_WINDOW_BY_ENCODER = 3.0
"""A window takes about so many times as long as its encoding."""


class OutOfMemory(Exception):
    """The device has no memory for a batch of this size."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How text tokens lie along a window: pairs of token and step, and the probability of each token."""

    path: tuple[tuple[int, int], ...]
    probabilities: tuple[float, ...]


class Vocabulary:
    """A model's tokens."""

    def __init__(self, tokenizer: Any, multilingual: bool) -> None:
        task, language = ("transcribe", "en") if multilingual else (None, None)
        self._tokenizer = tokenizer
        self._named = Tokenizer(tokenizer, multilingual, task=task, language=language)
        self._multilingual = multilingual
        self.text_end = self._named.eot
        """The end of a text; tokens below it are text."""
        self.timestamp_begin = self._named.timestamp_begin
        self.start_of_previous = self._named.sot_prev
        self.suppressed = list(get_suppressed_tokens(self._named, [-1]))
        """Tokens that are never written: notes instead of speech, and what only the system says."""

    def knows(self, language: str) -> bool:
        """Whether the model writes a language, given as ISO 639-1."""
        if not self._multilingual:
            return language == "en"
        return self._tokenizer.token_to_id(f"<|{language}|>") is not None

    def start(self, language: str, task: str) -> list[int]:
        """The tokens before a text."""
        if not self._multilingual:
            return [self._named.sot]
        return [self._named.sot, *(self._tokenizer.token_to_id(f"<|{name}|>") for name in (language, task))]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; none where it is empty."""
        return list(self._named.encode(" " + text.strip())) if text.strip() else []

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without timestamps."""
        return str(self._named.decode(list(tokens)))

    def text_tokens(self, tokens: Sequence[int]) -> list[int]:
        """Those of the tokens that are text."""
        return [token for token in tokens if token < self.text_end]

    def raw(self, token: int) -> bytes:
        """A token's bytes."""
        piece = self._tokenizer.id_to_token(token) or ""
        return b"".join(_BYTES[char] if char in _BYTES else char.encode() for char in piece)


def _byte_characters() -> dict[str, bytes]:
    """The characters that stand for bytes in byte-level vocabularies, as GPT-2 has them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): bytes([byte]) for byte in plain}
    return {**table, **{chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}}


_BYTES = _byte_characters()


class Whisper:
    """A loaded model. Batches are lists of windows or of what the encoder made of them."""

    def __init__(self, folder: Path, spec: WhisperSpec, placement: Placement) -> None:
        """Loads it. Raises RuntimeError where CTranslate2 cannot."""
        self.placement = placement
        self._model: Any = ctranslate2.models.Whisper(
            str(folder),
            device=placement.device,
            device_index=placement.index,
            compute_type=placement.compute_type,
            intra_threads=spec.threads,
            inter_threads=1,
        )
        self._beam_size = spec.beam_size
        self.multilingual = bool(self._model.is_multilingual)
        self.vocabulary = Vocabulary(_tokenizer(folder, self.multilingual), self.multilingual)
        self.mels = int(getattr(self._model, "n_mels", 0)) or _stated_mels(folder)
        self.compute_type = str(self._model.compute_type)
        self.memory_bytes: Mapping[str, int] = {}
        """What it holds by device; empty where that is what its process holds."""
        self.window_s = self._try_out()
        """About how long one window takes alone, in seconds."""

    def encode(self, windows: Sequence[Spectrogram]) -> list[Encoded]:
        """Runs the encoder, once for all windows. Raises OutOfMemory."""
        storage = _storage(windows)
        on_gpu = self.placement.device != "cpu"
        encoded = _on_device(lambda: self._model.encode(storage, to_cpu=on_gpu))
        if encoded.dtype == ctranslate2.DataType.bfloat16:
            encoded = encoded.to(ctranslate2.DataType.float32)  # which NumPy knows
        return list(np.array(encoded))

    def detect(self, encoded: Sequence[Encoded]) -> list[tuple[str, float]]:
        """The language spoken in each window, with its probability. Raises OutOfMemory."""
        if not self.multilingual:
            return [("en", 1.0)] * len(encoded)
        ranked = _on_device(lambda: self._model.detect_language(_storage(encoded)))
        return [(token[2:-2], float(probability)) for ((token, probability), *_) in ranked]

    def write(self, encoded: Sequence[Encoded], prompts: Sequence[list[int]], temperature: float) -> list[Attempt]:
        """Writes down each window behind its prompt, in one call. The prompts start at one place. Raises OutOfMemory."""
        search = (
            {"beam_size": 1, "num_hypotheses": _CANDIDATES, "sampling_topk": 0, "sampling_temperature": temperature}
            if temperature > 0
            else {"beam_size": self._beam_size, "patience": 1.0}
        )
        results = _on_device(
            lambda: self._model.generate(
                _storage(encoded),
                list(prompts),
                max_length=_CONTEXT_TOKENS,
                return_scores=True,
                return_no_speech_prob=True,
                suppress_blank=True,
                suppress_tokens=self.vocabulary.suppressed,
                max_initial_timestamp_index=_FIRST_TIMESTAMP_BY,
                **search,
            )
        )
        return [self._attempt(result, temperature) for result in results]

    def align(
        self, encoded: Sequence[Encoded], start: Sequence[int], texts: Sequence[list[int]], frames: Sequence[int]
    ) -> list[Alignment]:
        """Lays text tokens along their windows, in one call. Raises OutOfMemory."""
        results = _on_device(
            lambda: self._model.align(
                _storage(encoded), list(start), list(texts), list(frames), median_filter_width=_FILTER_STEPS
            )
        )
        return [Alignment(tuple(result.alignments), tuple(result.text_token_probs)) for result in results]

    def _try_out(self) -> float:
        """Encodes silence, which also readies the device for the first request."""
        begun_s = time.monotonic()
        self.encode([np.zeros((self.mels, WINDOW_FRAMES), np.float32)])
        return _WINDOW_BY_ENCODER * (time.monotonic() - begun_s)

    def close(self) -> None:
        """Frees the model."""
        self._model.unload_model()

    def _attempt(self, result: Any, temperature: float) -> Attempt:
        tokens = tuple(result.sequences_ids[0])
        return Attempt(
            temperature,
            tokens,
            mean_logprob(result.scores[0], len(tokens)),
            compression_ratio(self.vocabulary.decode(tokens).strip()),
            float(result.no_speech_prob),
        )


def find(spec: WhisperSpec) -> Path:
    """The model's folder, downloaded first where the spec names none. Raises ModelLoadError."""
    if Path(spec.model).is_absolute():
        folder = Path(spec.model)
    else:
        try:
            folder = Path(download_model(spec.model))
        except ValueError as error:
            raise ModelLoadError(str(error), "MODEL_FILE_MISSING") from error
        except Exception as error:  # whatever a hub's client raises
            message = f"{spec.model} cannot be fetched from its hub: {type(error).__name__}: {error}"
            raise ModelLoadError(message, "MODEL_FILE_MISSING") from error
    if not (folder / "model.bin").is_file():
        raise ModelLoadError("there is no model.bin in its folder", "MODEL_FILE_MISSING")
    return folder


def load(folder: Path, spec: WhisperSpec) -> Whisper:
    """Loads a model where there is room for it. Raises ModelLoadError."""
    gpus = range(ctranslate2.get_cuda_device_count())
    supported = {"cpu": ctranslate2.get_supported_compute_types("cpu")}
    if gpus:
        supported["cuda"] = ctranslate2.get_supported_compute_types("cuda")
    free_bytes = _free_bytes()
    if gpus and "cuda:0" not in free_bytes:
        log.warning("the memory of the GPU cannot be read and counts as full: nvidia-ml-py would read it")
    weights_bytes = (folder / "model.bin").stat().st_size
    placed = place(spec.device, spec.compute_type, weights_bytes, spec.batch, free_bytes, supported)
    if isinstance(placed, NoPlace):
        raise ModelLoadError(placed.message, "NO_CAPACITY")
    try:
        whisper = Whisper(folder, spec, placed)
        whisper.memory_bytes = _held_bytes(placed, free_bytes)
        return whisper
    except (RuntimeError, ValueError, MemoryError, OutOfMemory) as error:
        if placed.device == "cpu" or spec.device != "auto":
            raise ModelLoadError(f"CTranslate2 cannot load it: {error}") from error
        log.warning("a model goes to the CPU, the GPU cannot take it", extra={"error": str(error)})
    return on_cpu(folder, spec)


def on_cpu(folder: Path, spec: WhisperSpec) -> Whisper:
    """Loads a model into main memory. Raises ModelLoadError."""
    supported = {"cpu": ctranslate2.get_supported_compute_types("cpu")}
    compute_type = spec.compute_type if spec.compute_type in supported["cpu"] else "auto"
    placed = place("cpu", compute_type, 0, spec.batch, {}, supported)
    assert isinstance(placed, Placement)
    try:
        return Whisper(folder, spec, placed)
    except (RuntimeError, ValueError, MemoryError, OutOfMemory) as error:
        raise ModelLoadError(f"CTranslate2 cannot load it: {error}") from error


def _free_bytes() -> dict[str, int]:
    return {device.name: device.memory_free_bytes for device in Devices().read()}


def _held_bytes(placed: Placement, free_before: Mapping[str, int]) -> dict[str, int]:
    """What a model that was just loaded holds: nothing to be said for the CPU, where its process tells."""
    gpu = f"cuda:{placed.index}"
    if placed.device == "cpu" or gpu not in free_before:
        return {}
    held_bytes = free_before[gpu] - _free_bytes().get(gpu, 0)
    return {gpu: max(0, held_bytes), "cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _tokenizer(folder: Path, multilingual: bool) -> Any:
    file = folder / "tokenizer.json"
    if file.is_file():
        return tokenizers.Tokenizer.from_file(str(file))
    try:
        return tokenizers.Tokenizer.from_pretrained("openai/whisper-tiny" + ("" if multilingual else ".en"))
    except Exception as error:  # whatever a hub's client raises
        raise ModelLoadError("there is no tokenizer.json in its folder", "MODEL_FILE_MISSING") from error


def _stated_mels(folder: Path) -> int:
    try:
        stated = json.loads((folder / "preprocessor_config.json").read_text())
    except (OSError, ValueError):
        return _USUAL_MELS
    return int(stated.get("feature_size", _USUAL_MELS))


def _storage(rows: Sequence[NDArray[Any]]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.stack(rows)))


def _on_device(work: Any) -> Any:
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise OutOfMemory from error
        raise
