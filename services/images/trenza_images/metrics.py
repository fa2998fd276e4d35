"""What the images service counts. Model names come from the registry, never from a client."""

from __future__ import annotations

from prometheus_client import Counter

from trenza_images.engine import Drawn, Task

_PICTURES = Counter("trenza_images_pictures", "Pictures drawn for finished requests.", ["model", "task"])
_STEPS = Counter("trenza_images_steps", "Denoising steps made for them.", ["model"])
_PIXELS = Counter("trenza_images_pixels", "Their pixels.", ["model"])
_TRUNCATED = Counter(
    "trenza_images_truncated_prompts", "Requests whose prompt was too long for their model.", ["model"]
)


def count(model: str, task: Task, drawn: Drawn) -> None:
    """Counts what a finished request got."""
    _PICTURES.labels(model, task).inc(drawn.count)
    _STEPS.labels(model).inc(drawn.count * drawn.steps)
    _PIXELS.labels(model).inc(drawn.count * drawn.size[0] * drawn.size[1])
    if drawn.truncated_prompt:
        _TRUNCATED.labels(model).inc()
