"""What the audio service counts. Model names come from the registry, never from a client."""

from __future__ import annotations

from prometheus_client import Counter

_HEARD_SECONDS = Counter(
    "trenza_audio_heard_seconds", "Seconds of sound that were heard for finished requests.", ["model"]
)


def count_heard(model: str, duration_s: float) -> None:
    """Counts the sound of a finished request."""
    _HEARD_SECONDS.labels(model).inc(duration_s)
