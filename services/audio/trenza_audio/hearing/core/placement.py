"""Decides where a Whisper runs and with what numbers, from the memory that is free."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

CPU = "cpu"
_MIB = 2**20
_WORKSPACE_BYTES = 600 * _MIB
"""What CUDA, its libraries and their scratch space take beside the model."""
_WINDOW_BYTES = 48 * _MIB
"""What one window of a batch takes while it is heard, at the width of the largest models."""
_PREFERRED: Mapping[str, tuple[str, ...]] = {
    "cuda": ("float16", "bfloat16", "int8_float16", "float32"),
    "cpu": ("int8", "int8_float32", "float32"),
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where to load: "cpu" or "cuda", which of several GPUs, and the compute type."""

    device: str
    index: int
    compute_type: str


@dataclass(frozen=True, slots=True)
class NoPlace:
    """It fits nowhere that it may go; the message says why, as a sentence's end."""

    message: str


def place(
    wanted: str,
    compute_type: str,
    weights_bytes: int,
    batch: int,
    free_bytes: Mapping[str, int],
    supported: Mapping[str, Set[str]],
) -> Placement | NoPlace:
    """Where to load a model whose file has `weights_bytes`.

    `wanted` is "auto", "cpu" or "cuda"; `free_bytes` is the free memory of "cuda:0", "cuda:1" …; `supported` are the
    compute types by device, without a key "cuda" where there is no GPU. The GPU with most free memory is taken where
    the model fits, else the CPU, which then chooses its own numbers. A GPU that nobody can measure counts as full, unless
    a GPU is insisted on.
    """
    on_gpu, on_cpu = supported.get("cuda", frozenset()), supported.get(CPU, frozenset())
    if wanted == CPU or not on_gpu:
        return NoPlace("there is no GPU") if wanted == "cuda" else _with_type(CPU, 0, compute_type, on_cpu)
    needed_bytes = gpu_bytes(weights_bytes, batch)
    gpus = {int(name.partition(":")[2]): free for name, free in free_bytes.items() if name.startswith("cuda:")}
    index = max(gpus, key=lambda gpu: (gpus[gpu], -gpu), default=0)
    if gpus.get(index, needed_bytes if wanted == "cuda" else 0) >= needed_bytes:
        return _with_type("cuda", index, compute_type, on_gpu)
    if wanted == "cuda":
        return NoPlace(f"it needs {needed_bytes // _MIB} MiB on a GPU, and {gpus[index] // _MIB} MiB are free")
    return _with_type(CPU, 0, compute_type if compute_type in on_cpu else "auto", on_cpu)


def gpu_bytes(weights_bytes: int, batch: int) -> int:
    """What a model takes on a GPU at most."""
    return weights_bytes * 5 // 4 + _WORKSPACE_BYTES + batch * _WINDOW_BYTES


def _with_type(device: str, index: int, asked: str, supported: Set[str]) -> Placement | NoPlace:
    if asked not in ("auto", "default"):
        if asked not in supported:
            return NoPlace(f"{asked} cannot be computed on the {device.upper()}; {', '.join(sorted(supported))} can")
        return Placement(device, index, asked)
    best = next((kind for kind in _PREFERRED[device] if kind in supported), "float32")
    return Placement(device, index, best)
