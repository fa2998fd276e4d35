"""What the tests of the engine do over and over: run requests, count passes, look at pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from trenza_images.engine import DrawRequest, Picture, Sketch
from trenza_images.engines.diffusers import DiffusersEngine

STEP_LIMIT = 500
TOLERANCE = 2
"""How far a picture's values may differ when others shared its passes: sums in another order round otherwise."""


def draw(prompt: str = "a red circle", seed: int = 1, **fields: Any) -> DrawRequest:
    """A request for a picture."""
    return DrawRequest(task="generate", prompt=prompt, seed=seed, **fields)


def run(engine: DiffusersEngine, requests: Mapping[str, DrawRequest]) -> dict[str, list[Any]]:
    """Runs requests that come together; returns their events."""
    for name, request in requests.items():
        engine.submit(name, request)
    return finish(engine)


def finish(engine: DiffusersEngine) -> dict[str, list[Any]]:
    """Runs an engine until nothing is left to do; returns the events by request."""
    events: dict[str, list[Any]] = {}
    for _ in range(STEP_LIMIT):
        if not engine.busy:
            return events
        for emission in engine.step():
            events.setdefault(emission.request_id, []).append(emission.event)
    raise AssertionError(f"still busy after {STEP_LIMIT} steps")


def one(engine: DiffusersEngine, request: DrawRequest) -> list[Any]:
    """Runs one request; returns its events."""
    return run(engine, {"one": request})["one"]


def opened(data: bytes) -> Image.Image:
    """An encoded picture."""
    return Image.open(io.BytesIO(data))


def pixels(data: bytes) -> np.ndarray:
    """An encoded picture's values, wide enough to be subtracted."""
    return np.asarray(opened(data).convert("RGB")).astype(int)


def pictures(events: list[Any]) -> list[np.ndarray]:
    """The finished pictures among events, in order."""
    found = sorted((event for event in events if isinstance(event, Picture)), key=lambda event: event.index)
    return [pixels(event.data) for event in found]


def sketches(events: list[Any]) -> list[Sketch]:
    """The unfinished pictures among events."""
    return [event for event in events if isinstance(event, Sketch)]


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference between two pictures' values."""
    return int(abs(one - other).max())


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@contextmanager
def watched_denoiser(engine: DiffusersEngine, before: Callable[[int], None] = lambda rows: None) -> Iterator[list[int]]:
    """The rows of each pass of the denoising network; `before` is called with them and may raise."""
    rows: list[int] = []
    unet = engine._pipelines.root.unet

    def note(_: torch.nn.Module, args: tuple[Any, ...]) -> None:
        before(len(args[0]))
        rows.append(len(args[0]))

    hook = unet.register_forward_pre_hook(note)
    try:
        yield rows
    finally:
        hook.remove()
