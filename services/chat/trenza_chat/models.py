"""How the chat service runs a manifest's model."""

from __future__ import annotations

import os
from typing import Any

from trenza_llama.engine import LlamaSpec
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

from trenza_chat.settings import ChatSettings

LOADER = "trenza_llama.engines.llama:load"


def spec_for(manifest: ModelManifest, settings: ChatSettings) -> tuple[str, Any]:
    """The engine's loader and its spec. Raises ModelLoadError for an engine that this service does not have."""
    if manifest.engine not in ("", "llama"):
        raise ModelLoadError(f"its engine is {manifest.engine!r}, and this service has llama only", "ENGINE_MISSING")
    if "model" not in manifest.files:
        raise ModelLoadError("its manifest names no file under files.model", "MODEL_FILE_MISSING")
    slots = manifest.slots or settings.slots
    return LOADER, LlamaSpec(
        model_path=str(manifest.files["model"]),
        slots=slots,
        context_length=settings.context_length or manifest.context_length or None,
        batch_tokens=max(settings.batch_tokens, slots),
        threads=settings.threads or len(os.sched_getaffinity(0)),
        gpu_layers=settings.gpu_layers,
    )
