"""How the vision service runs a manifest's model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from trenza_llama.engine import LlamaSpec
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

from trenza_vision.engine import TransformersSpec
from trenza_vision.settings import VisionSettings

LLAMA_LOADER = "trenza_llama.engines.llama:load"
TRANSFORMERS_LOADER = "trenza_vision.engines.transformers:load"
_FOUR_BIT_SUFFIX = "_4bit"
"""How the original system's names say that a model is loaded in 4 bits."""


def spec_for(manifest: ModelManifest, settings: VisionSettings) -> tuple[str, Any]:
    """The engine's loader and its spec. Raises ModelLoadError where the manifest asks for what there is not."""
    match manifest.engine or _usual_engine(manifest):
        case "llama":
            return LLAMA_LOADER, _llama_spec(manifest, settings)
        case "transformers":
            return TRANSFORMERS_LOADER, _transformers_spec(manifest, settings)
        case other:
            raise ModelLoadError(
                f"its engine is {other!r}, and this service has llama and transformers only", "ENGINE_MISSING"
            )


def _usual_engine(manifest: ModelManifest) -> str:
    """What runs a model whose manifest names no engine: llama a file of its own kind, transformers a folder."""
    model = manifest.files.get("model")
    return "llama" if model is not None and model.suffix == ".gguf" else "transformers"


def _llama_spec(manifest: ModelManifest, settings: VisionSettings) -> LlamaSpec:
    for role in ("model", "projector"):
        if role not in manifest.files:
            raise ModelLoadError(f"its manifest names no file under files.{role}", "MODEL_FILE_MISSING")
    slots = manifest.slots or settings.slots
    return LlamaSpec(
        model_path=str(manifest.files["model"]),
        projector_path=str(manifest.files["projector"]),
        picture_cache_bytes=settings.picture_cache_bytes,
        slots=slots,
        context_length=_context_length(manifest, settings),
        batch_tokens=max(settings.batch_tokens, slots),
        threads=_threads(settings),
        gpu_layers=settings.gpu_layers,
    )


def _transformers_spec(manifest: ModelManifest, settings: VisionSettings) -> TransformersSpec:
    table = manifest.tables.get("vision", {})
    return TransformersSpec(
        source=_source(manifest, table),
        slots=manifest.slots or settings.slots,
        context_length=_context_length(manifest, settings),
        device=settings.device,
        precision=settings.precision,
        four_bit=_four_bit(manifest, table),
        threads=_threads(settings),
    )


def _context_length(manifest: ModelManifest, settings: VisionSettings) -> int | None:
    return settings.context_length or manifest.context_length or None


def _threads(settings: VisionSettings) -> int:
    return settings.threads or len(os.sched_getaffinity(0))


def _source(manifest: ModelManifest, table: Mapping[str, Any]) -> str:
    """The model's folder, or its name on a hub."""
    if "model" in manifest.files:
        return str(manifest.files["model"])
    hub = table.get("hub")
    if hub is None:
        raise ModelLoadError("its manifest names neither files.model nor vision.hub", "MODEL_FILE_MISSING")
    if not isinstance(hub, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", hub):
        raise ModelLoadError(f"vision.hub must be like 'maker/model', and {hub!r} is not")
    return hub


def _four_bit(manifest: ModelManifest, table: Mapping[str, Any]) -> bool:
    quantization = table.get("quantization")
    if quantization is None:
        return manifest.name.endswith(_FOUR_BIT_SUFFIX)
    if quantization not in ("4bit", "none"):
        raise ModelLoadError(f"vision.quantization must be '4bit' or 'none', and {quantization!r} is neither")
    return bool(quantization == "4bit")
