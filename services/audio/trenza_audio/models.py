"""How the audio service runs a manifest's model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

from trenza_audio.hearing.engine import WhisperSpec
from trenza_audio.settings import AudioSettings
from trenza_audio.speaking import engine as speaking

SPEAKING = ("espeak", "bark", "kokoro")
"""Engines that speak; each is `trenza_audio.engines.<name>:load`."""


def spec_for(manifest: ModelManifest, settings: AudioSettings) -> tuple[str, Any]:
    """The engine's loader and its spec. Raises ModelLoadError for an engine that this service does not have."""
    slots = manifest.slots or settings.slots
    threads = settings.threads or len(os.sched_getaffinity(0))
    if manifest.engine in ("", "whisper"):
        return "trenza_audio.engines.whisper:load", _whisper(manifest, settings, slots, threads)
    if manifest.engine in SPEAKING:
        spec = speaking.spec_for(manifest, slots=slots, threads=threads, device=settings.device)
        return f"trenza_audio.engines.{manifest.engine}:load", spec
    known = ", ".join(("whisper", *SPEAKING))
    raise ModelLoadError(f"its engine is {manifest.engine!r}, and this service has {known}", "ENGINE_MISSING")


def _whisper(manifest: ModelManifest, settings: AudioSettings, slots: int, threads: int) -> WhisperSpec:
    hearing = manifest.tables.get("hearing")
    hub = str(hearing.get("hub", "")) if isinstance(hearing, Mapping) else ""
    if "model" not in manifest.files and not hub:
        message = "its manifest names neither a folder under files.model nor a model under hearing.hub"
        raise ModelLoadError(message, "MODEL_FILE_MISSING")
    return WhisperSpec(
        model=str(manifest.files["model"]) if "model" in manifest.files else hub,
        slots=slots,
        batch=settings.batch,
        threads=threads,
        device=settings.device,
        compute_type=settings.compute_type,
        beam_size=settings.beam_size,
        sound_limit_s=settings.sound_limit_s,
    )
