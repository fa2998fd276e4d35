"""Writes a trained pipeline in half precision, so that a plain load with no arguments draws in full precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline


def export(folder: Path, target: Path) -> int:
    """Save the pipeline in `folder` as half-precision files in `target`; returns their size in bytes."""
    StableDiffusionXLPipeline.from_pretrained(folder / "pipeline", torch_dtype=torch.float16).save_pretrained(target)
    for file in [target / "model_index.json", *target.glob("*/config.json"), *target.glob("*/scheduler_config.json")]:
        _tidy(file)
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def _tidy(file: Path) -> None:
    """Leave out where the parts were loaded from, and make the text encoders load in full precision.

    A text encoder takes the type of its weights from its configuration, unlike the other parts, and does not run in half
    precision beside them.
    """
    config = json.loads(file.read_text("utf-8"))
    config.pop("_name_or_path", None)
    if "dtype" in config:
        config["dtype"] = "float32"
    file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
