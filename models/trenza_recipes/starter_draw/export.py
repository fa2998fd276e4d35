"""Writes a trained pipeline in half precision, so that a plain load with no arguments draws in full precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline


def export(folder: Path, target: Path) -> int:
    """Save the pipeline in `folder` as half-precision files in `target`; returns their size in bytes."""
    StableDiffusionXLPipeline.from_pretrained(folder / "pipeline", torch_dtype=torch.float16).save_pretrained(target)
    for encoder in ("text_encoder", "text_encoder_2"):
        # A text encoder takes the type of its weights from here, unlike the other parts, and half precision does not
        # run beside them.
        file = target / encoder / "config.json"
        config = json.loads(file.read_text("utf-8"))
        config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
