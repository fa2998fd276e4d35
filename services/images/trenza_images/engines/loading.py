"""Loads a pipeline onto its device as the memory plan says."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from trenza_runtime.devices import CPU, Devices
from trenza_runtime.worker.engine import ModelLoadError

from trenza_images.core import memory
from trenza_images.engine import ImagesSpec
from trenza_images.engines.pipelines import Pipelines, usual_size

log = logging.getLogger(__name__)

Precision = Literal["float32", "float16", "bfloat16"]
_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
_BFLOAT16_SINCE = (8, 0)
"""The first generation of NVIDIA's chips that computes with bfloat16."""


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline in memory, where it is and how it is kept there. `memory_bytes` by device, empty where only the CPU has a part."""

    pipelines: Pipelines
    device: torch.device
    precision: Precision
    plan: memory.MemoryPlan
    memory_bytes: dict[str, int]


def load(spec: ImagesSpec, report: Callable[[float], None]) -> LoadedPipeline:
    """Loads the pipeline of a spec. Raises ModelLoadError."""
    _prepare_libraries(spec.threads)
    device = _device(spec.device)
    precision = _precision(spec, device)
    root = _read(spec, _DTYPES[precision])
    report(0.7)
    plan = _plan(spec, root, device, precision)
    log.info("memory plan", extra={"plan": str(plan), "device": str(device), "precision": precision})
    _place(root, device, plan)
    pipelines = Pipelines(root, spec.source)
    if not pipelines.modes:
        raise ModelLoadError(f"a {type(root).__name__} draws neither from texts nor from pictures", "UNSUPPORTED")
    report(1.0)
    return LoadedPipeline(pipelines, device, precision, plan, _memory_bytes(device))


def _prepare_libraries(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    for library in (diffusers, transformers):
        library.logging.disable_progress_bar()


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


def _precision(spec: ImagesSpec, device: torch.device) -> Precision:
    """What is asked for; else full precision on a CPU, and on a GPU what the kind of network was trained to bear."""
    if spec.precision != "auto":
        return cast(Precision, spec.precision)
    if device.type == "cpu":
        return "float32"
    capable = torch.cuda.get_device_capability(device) >= _BFLOAT16_SINCE
    return "bfloat16" if capable and not _has_unet(Path(spec.source)) else "float16"


def _has_unet(folder: Path) -> bool:
    index = folder / "model_index.json"
    return "unet" in json.loads(index.read_text()) if index.is_file() else True


def _read(spec: ImagesSpec, dtype: torch.dtype) -> Any:
    pipeline_class: Any = DiffusionPipeline  # its types are as good as none
    folder = Path(spec.source)
    if folder.is_absolute() and not (folder / "model_index.json").is_file():
        raise ModelLoadError(
            "its folder holds no model_index.json, so it is no diffusers pipeline", "MODEL_FILE_MISSING"
        )
    try:
        root = pipeline_class.from_pretrained(
            spec.source, dtype=dtype, variant=spec.variant, local_files_only=folder.is_absolute()
        )
    except (OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        raise ModelLoadError(f"diffusers cannot load it: {str(error).splitlines()[0][:300]}") from error
    return root


def _plan(spec: ImagesSpec, root: Any, device: torch.device, precision: Precision) -> memory.MemoryPlan:
    width, height = spec.defaults.size or usual_size(root)
    if spec.defaults.native_size:
        width = height = spec.defaults.native_size
    place = memory.Place(device.type != "cpu", _free_bytes(device), precision == "float32")
    asked = None if spec.offload == "auto" else cast(memory.Offload, spec.offload)
    return memory.plan(_weights(root), place, width * height, asked, spec.batch_pixels)


def _weights(root: Any) -> memory.Weights:
    parts = [
        sum(parameter.nbytes for parameter in part.parameters())
        for part in root.components.values()
        if isinstance(part, torch.nn.Module)
    ]
    return memory.Weights(sum(parts), max(parts, default=0))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return next(one.memory_free_bytes for one in Devices().read() if one.name == CPU)


def _place(root: Any, device: torch.device, plan: memory.MemoryPlan) -> None:
    match plan.offload:
        case "model":
            root.enable_model_cpu_offload(device=device)
        case "sequential":
            root.enable_sequential_cpu_offload(device=device)
        case "none":
            root.to(device)
    if plan.attention_slicing and hasattr(root, "enable_attention_slicing"):
        root.enable_attention_slicing()
    if plan.vae_tiling and hasattr(getattr(root, "vae", None), "enable_tiling"):
        root.vae.enable_tiling()


def _memory_bytes(device: torch.device) -> dict[str, int]:
    """What the process holds on a GPU; on a CPU the service looks for itself."""
    if device.type != "cuda":
        return {}
    return {str(device): int(torch.cuda.memory_reserved(device))}
