"""The gateway's Prometheus metrics. Labels come from fixed sets or the model list, never from a client's string."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge, Histogram
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2

_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_LONGEST_S = 2.0**31

REQUESTS = Counter("trenza_gateway_requests", "Requests by route and HTTP status.", ("route", "status"))
REQUEST_S = Histogram(
    "trenza_gateway_request_seconds",
    "From a request's arrival to the end of its answer.",
    ("route",),
    buckets=_LATENCY_BUCKETS_S,
)
FIRST_MESSAGE_S = Histogram(
    "trenza_gateway_first_token_seconds",
    "From a request's arrival to its first token.",
    ("model",),
    buckets=_LATENCY_BUCKETS_S,
)
IN_FLIGHT = Gauge("trenza_gateway_in_flight_requests", "Requests being served or waiting.", ("front",))
CONNECTIONS = Gauge("trenza_gateway_connections", "Open HTTP connections.")
TOKENS = Counter("trenza_gateway_tokens", "Tokens used, as replicas report them.", ("model", "kind"))
SOUND_S = Counter("trenza_gateway_sound_seconds", "Sound heard or spoken.", ("model", "kind"))
PICTURES = Counter("trenza_gateway_pictures", "Pictures drawn, as replicas report them.", ("model",))
PLACEMENTS = Counter("trenza_gateway_placements", "Places given, by who chose the replica.", ("chosen_by",))
RETRIES = Counter("trenza_gateway_retries", "Further places sought, by how the attempt before ended.", ("ending",))
ENDINGS = Counter("trenza_gateway_calls", "Calls to replicas, by how they ended.", ("ending",))
SCHEDULER_UP = Gauge(
    "trenza_gateway_scheduler_up", "1 while the scheduler answers, 0 while the gateway routes by itself."
)
LEASES = Gauge("trenza_gateway_leases", "Leases held.")
CONNECTIONS_CLOSED = Counter(
    "trenza_gateway_connections_closed", "Connections closed on the gateway's own account.", ("why",)
)


def count_tokens(model: str, usage: common_pb2.TokenUsage) -> None:
    """Adds one request's usage."""
    TOKENS.labels(model, "prompt").inc(usage.prompt_tokens)
    TOKENS.labels(model, "cached").inc(usage.cached_tokens)
    TOKENS.labels(model, "completion").inc(usage.completion_tokens)
    TOKENS.labels(model, "image").inc(usage.image_tokens)


def count_sound(model: str, summary: audio_pb2.TranscriptSummary | audio_pb2.SpeechSummary) -> int:
    """Adds the sound of one request. Returns its size as the scheduler counts it: seconds heard, characters spoken."""
    seconds = min(max(0.0, summary.duration_s), _LONGEST_S)
    if isinstance(summary, audio_pb2.SpeechSummary):
        SOUND_S.labels(model, "spoken").inc(seconds)
        return summary.input_characters
    SOUND_S.labels(model, "heard").inc(seconds)
    return math.ceil(seconds)


def count_pictures(model: str, summary: images_pb2.DrawingSummary) -> None:
    """Adds the pictures of one request, and what it used."""
    PICTURES.labels(model).inc(summary.images)
    count_tokens(model, summary.usage)
