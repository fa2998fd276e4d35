"""Memory that runs out, which is no reason to die."""

from __future__ import annotations

import gc

import torch


def is_shortage(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or on the CPU, where torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def free_memory() -> None:
    """Gives back what nobody uses any more."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing where no GPU is in use
