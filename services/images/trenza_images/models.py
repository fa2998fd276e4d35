"""How the images service runs a manifest's model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

from trenza_images.engine import MAX_GUIDANCE, MAX_STEPS, MIN_SIDE, DrawLimits, ImagesSpec, ModelDefaults
from trenza_images.settings import ImagesSettings

LOADER = "trenza_images.engines.diffusers:load"
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def spec_for(manifest: ModelManifest, settings: ImagesSettings) -> tuple[str, Any]:
    """The engine's loader and its spec. Raises ModelLoadError where the manifest asks for what there is not."""
    if manifest.engine not in ("", "diffusers"):
        raise ModelLoadError(
            f"its engine is {manifest.engine!r}, and this service has diffusers only", "ENGINE_MISSING"
        )
    drawing = manifest.tables.get("drawing", {})
    return LOADER, ImagesSpec(
        source=_source(manifest, drawing),
        variant=_text(drawing, "variant"),
        slots=manifest.slots or settings.slots,
        device=settings.device,
        precision=settings.precision,
        offload=settings.offload,
        batch_pixels=settings.batch_pixels,
        threads=settings.threads or len(os.sched_getaffinity(0)),
        defaults=_defaults(manifest.defaults, drawing),
        limits=DrawLimits(settings.max_pixels, settings.max_side, settings.max_source_pixels),
    )


def _source(manifest: ModelManifest, drawing: Mapping[str, Any]) -> str:
    """The pipeline's folder, or its name on a hub."""
    for role in ("pipeline", "model"):
        if role in manifest.files:
            return str(manifest.files[role])
    hub = _text(drawing, "hub")
    if hub is None:
        raise ModelLoadError("its manifest names neither files.pipeline nor drawing.hub", "MODEL_FILE_MISSING")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub):
        raise ModelLoadError(f"drawing.hub must be like 'maker/model', and {hub!r} is not")
    return hub


def _defaults(defaults: Mapping[str, Any], drawing: Mapping[str, Any]) -> ModelDefaults:
    steps = _number(defaults, "steps", 1, MAX_STEPS)
    native = _number(drawing, "native_size", MIN_SIDE, 8192)
    return ModelDefaults(
        steps=None if steps is None else int(steps),
        guidance_scale=_number(defaults, "guidance_scale", 0, MAX_GUIDANCE),
        size=_size(defaults),
        strength=_number(defaults, "strength", 0.02, 1),
        variation_strength=_number(defaults, "variation_strength", 0.02, 1),
        native_size=None if native is None else int(native),
    )


def _number(table: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ModelLoadError(f"{key} must be a number between {low:g} and {high:g}, and {value!r} is not")
    return float(value)


def _size(defaults: Mapping[str, Any]) -> tuple[int, int] | None:
    value = defaults.get("size")
    if value is None:
        return None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ModelLoadError(f"defaults.size must be like '512x512', and {value!r} is not")
    return int(match[1]), int(match[2])


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise ModelLoadError(f"drawing.{key} must be a text, and {value!r} is none")
    return value
