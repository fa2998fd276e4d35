"""What the audio service counts. Model names come from the registry, never from a client."""

from __future__ import annotations

from prometheus_client import Counter

_HEARD_SECONDS = Counter(
    "trenza_audio_heard_seconds", "Seconds of sound that were heard for finished requests.", ["model"]
)

_SPOKEN_SECONDS = Counter("trenza_audio_spoken_seconds", "Seconds of speech of finished requests.", ["model"])


def count_heard(model: str, duration_s: float) -> None:
    """Counts the sound of a finished request."""
    _HEARD_SECONDS.labels(model).inc(duration_s)


def count_spoken(model: str, duration_s: float) -> None:
    """Counts the speech of a finished request."""
    _SPOKEN_SECONDS.labels(model).inc(duration_s)
