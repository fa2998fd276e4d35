"""What the chat service counts. Model names come from the registry, never from a client."""

from __future__ import annotations

from prometheus_client import Counter
from trenza.common.v1 import common_pb2

_PROMPT_TOKENS = Counter("trenza_chat_prompt_tokens", "Tokens of prompts of finished requests.", ["model"])
_CACHED_TOKENS = Counter("trenza_chat_cached_tokens", "Those of them that did not have to be computed.", ["model"])
_COMPLETION_TOKENS = Counter("trenza_chat_completion_tokens", "Tokens generated for finished requests.", ["model"])


def count(model: str, usage: common_pb2.TokenUsage) -> None:
    """Counts what a finished request used."""
    _PROMPT_TOKENS.labels(model).inc(usage.prompt_tokens)
    _CACHED_TOKENS.labels(model).inc(usage.cached_tokens)
    _COMPLETION_TOKENS.labels(model).inc(usage.completion_tokens)
