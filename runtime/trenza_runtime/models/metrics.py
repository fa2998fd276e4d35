"""What a model service measures of its models. Model names come from the registry, never from a client."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

LOADS = Counter("trenza_model_loads", "Attempts to load a model, by how they ended.", ["model", "outcome"])
CRASHES = Counter("trenza_model_crashes", "Worker processes that died with a model loaded.", ["model"])
EVICTIONS = Counter("trenza_model_evictions", "Idle models removed to make room for another.", ["model"])
LOAD_SECONDS = Histogram(
    "trenza_model_load_seconds",
    "Time from the start of a worker process until its model answers.",
    ["model"],
    buckets=(0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600),
)
_LOADED = Gauge("trenza_model_loaded", "Whether a model is in memory.", ["model"])
_SLOTS_USED = Gauge("trenza_model_slots_used", "Slots of a model in use.", ["model"])
_WAITING = Gauge("trenza_model_waiting_requests", "Requests that wait for a slot of a model.", ["model"])
_MEMORY_BYTES = Gauge(
    "trenza_model_memory_bytes", "Memory that a model held once it was loaded, by device.", ["model", "device"]
)
_FIGURE = Gauge("trenza_model_engine", "Figures that a model's engine gives about itself.", ["model", "figure"])


def show_loaded(
    model: str, slots_used: int, waiting: int, memory_bytes: Mapping[str, int], figures: Mapping[str, float]
) -> None:
    """Publishes the figures of a model in memory; `memory_bytes` goes by device, `figures` are its engine's own."""
    for counter in (CRASHES, EVICTIONS):  # a rate sees the first of a kind only where the series was there before
        counter.labels(model)
    _LOADED.labels(model).set(1)
    _SLOTS_USED.labels(model).set(slots_used)
    _WAITING.labels(model).set(waiting)
    for device, held_bytes in memory_bytes.items():
        _MEMORY_BYTES.labels(model, device).set(held_bytes)
    for figure, value in figures.items():
        _FIGURE.labels(model, figure).set(value)


def show_absent(model: str) -> None:
    """Takes back the figures of a model that is no longer in memory."""
    _LOADED.labels(model).set(0)
    _SLOTS_USED.labels(model).set(0)
    _WAITING.labels(model).set(0)
    _MEMORY_BYTES.remove_by_labels({"model": model})
    _FIGURE.remove_by_labels({"model": model})
