"""How a model of the `transformers` engine is to be run; plain data that crosses the border of the worker process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransformersSpec:
    """A model to load and how to run it.

    `source` is a folder or a hub's id. `context_length` bounds prompt and answer together, in tokens; None takes the model's own.
    `device` is "auto", "cpu", "cuda" or "cuda:1"; `precision` "auto", "float32", "float16" or "bfloat16". With `four_bit` the
    weights are kept in 4 bits, which takes a GPU. `threads` 0 leaves them to torch.
    """

    source: str
    slots: int
    context_length: int | None = None
    device: str = "auto"
    precision: str = "auto"
    four_bit: bool = False
    threads: int = 0
    max_waiting: int = 256
