"""What the vision service counts. Model names come from the registry, never from a client."""

from __future__ import annotations

from prometheus_client import Counter
from trenza.common.v1 import common_pb2

_PROMPT_TOKENS = Counter("trenza_vision_prompt_tokens", "Tokens of prompts of finished requests.", ["model"])
_IMAGE_TOKENS = Counter("trenza_vision_image_tokens", "Those of them that stand for pictures.", ["model"])
_CACHED_TOKENS = Counter("trenza_vision_cached_tokens", "Those of them that did not have to be computed.", ["model"])
_COMPLETION_TOKENS = Counter("trenza_vision_completion_tokens", "Tokens generated for finished requests.", ["model"])
_PICTURES = Counter("trenza_vision_pictures", "Pictures in conversations of finished requests.", ["model"])


def count(model: str, usage: common_pb2.TokenUsage, pictures: int) -> None:
    """Counts what a finished request used."""
    _PROMPT_TOKENS.labels(model).inc(usage.prompt_tokens)
    _IMAGE_TOKENS.labels(model).inc(usage.image_tokens)
    _CACHED_TOKENS.labels(model).inc(usage.cached_tokens)
    _COMPLETION_TOKENS.labels(model).inc(usage.completion_tokens)
    _PICTURES.labels(model).inc(pictures)
