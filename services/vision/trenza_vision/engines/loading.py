"""Loads an image-text-to-text model with its processor onto its device."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from trenza_runtime.worker.engine import ModelLoadError, ProgressReporter

from trenza_vision.engine import TransformersSpec

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
_BFLOAT16_SINCE = (8, 0)
"""The first generation of NVIDIA's chips that computes with bfloat16."""
_USUAL_CONTEXT_LENGTH = 8192
"""As much as a request gets of a model that could take more, where nobody says otherwise."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, its processor, and what is known of them. `ends` are the tokens that end an answer."""

    model: Any
    processor: Any
    device: torch.device
    precision: str
    ends: frozenset[int]
    image_token: int | None
    context_length: int

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return getattr(self.processor, "tokenizer", self.processor)


def load(spec: TransformersSpec, report: ProgressReporter) -> LoadedModel:
    """Loads the model of a spec. Raises ModelLoadError."""
    if spec.threads:
        torch.set_num_threads(spec.threads)
    transformers.logging.disable_progress_bar()
    device = _device(spec.device)
    precision = _precision(spec.precision, device)
    quantization = _four_bits(device, precision) if spec.four_bit else None
    model, processor = _read(spec, device, precision, quantization)
    report(1.0)
    return LoadedModel(
        model=model,
        processor=processor,
        device=device,
        precision=precision,
        ends=_take_ends(model, processor),
        image_token=_image_token(model, processor),
        context_length=spec.context_length or min(_trained_length(model, processor), _USUAL_CONTEXT_LENGTH),
    )


def _device(asked: str) -> torch.device:
    if not _DEVICE.fullmatch(asked) and asked != "auto":
        raise ModelLoadError(f"there is no device {asked!r}; it is auto, cpu, cuda, or cuda: and a number")
    available = torch.cuda.is_available()
    if asked == "auto":
        return torch.device("cuda:0" if available else "cpu")
    device = torch.device(asked)
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        raise ModelLoadError(f"the device {asked} is not there")
    return torch.device("cuda:0") if asked == "cuda" else device


def _precision(asked: str, device: torch.device) -> str:
    if asked != "auto":
        return asked
    if device.type == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability(device) >= _BFLOAT16_SINCE else "float16"


def _four_bits(device: torch.device, precision: str) -> Any:
    """How weights are kept in 4 bits. Raises ModelLoadError where that cannot be done."""
    if device.type != "cuda":
        raise ModelLoadError(
            "weights in 4 bits need an NVIDIA GPU, and there is none for this model; load it unquantised", "UNSUPPORTED"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelLoadError(
            "weights in 4 bits need the package bitsandbytes: install trenza-vision[quantization]", "ENGINE_MISSING"
        )
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=_DTYPES[precision]
    )


def _read(spec: TransformersSpec, device: torch.device, precision: str, quantization: Any) -> tuple[Any, Any]:
    folder = Path(spec.source)
    if folder.is_absolute() and not (folder / "config.json").is_file():
        raise ModelLoadError("its folder holds no config.json, so it is no model of transformers", "MODEL_FILE_MISSING")
    local = {"local_files_only": folder.is_absolute(), "trust_remote_code": False}
    placed = {"quantization_config": quantization, "device_map": {"": device}} if quantization is not None else {}
    try:
        processor = AutoProcessor.from_pretrained(spec.source, **local)
        model = AutoModelForImageTextToText.from_pretrained(spec.source, dtype=_DTYPES[precision], **local, **placed)
        return (model if placed else model.to(device)).eval(), processor
    except torch.OutOfMemoryError:
        raise ModelLoadError(f"there is not enough memory for it on {device}", "OUT_OF_MEMORY") from None
    except MemoryError:
        raise ModelLoadError("there is not enough memory for it", "OUT_OF_MEMORY") from None
    except Exception as error:  # files that are broken or of another kind fail in whatever way their reader has
        first_line = str(error).strip().partition("\n")[0]
        raise ModelLoadError(f"transformers cannot load it: {first_line or type(error).__name__}") from error


def _take_ends(model: Any, processor: Any) -> frozenset[int]:
    """The tokens that end an answer. The model's own ideas of how to choose tokens are put away: requests bring theirs."""
    usual = model.generation_config
    ends = usual.eos_token_id if usual.eos_token_id is not None else []
    ends = {ends} if isinstance(ends, int) else set(ends)
    tokenizer_end = getattr(getattr(processor, "tokenizer", processor), "eos_token_id", None)
    kept = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
    model.generation_config = GenerationConfig(**{name: getattr(usual, name, None) for name in kept})
    return frozenset(ends | ({tokenizer_end} if tokenizer_end is not None else set()))


def _image_token(model: Any, processor: Any) -> int | None:
    """The token that stands for a piece of a picture in a prompt."""
    for owner in (model.config, processor):
        for name in ("image_token_id", "image_token_index"):
            token = getattr(owner, name, None)
            if isinstance(token, int):
                return token
    return None


def _trained_length(model: Any, processor: Any) -> int:
    """The context that the model was trained for, as far as it says."""
    text = model.config.get_text_config()
    lengths = (
        getattr(text, "max_position_embeddings", None),
        getattr(getattr(processor, "tokenizer", None), "model_max_length", None),
    )
    return min((length for length in lengths if isinstance(length, int) and length > 0), default=_USUAL_CONTEXT_LENGTH)
