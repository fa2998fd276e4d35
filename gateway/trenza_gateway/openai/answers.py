"""What the answers of both text endpoints share: identity, usage, finish reasons, and completeness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2

FINISH_REASONS = {
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}

LEAST_LOGPROB = -9999.0
"""What OpenAI reports for a token whose probability is as good as none; minus infinity is no JSON."""


class AnswerError(Exception):
    """A replica's answer breaks the contract; the message says how."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What every object of one answer repeats: its id, when it was made (seconds since the epoch), by which model."""

    id: str
    created_unix_s: int
    model: str


def usage_object(usage: common_pb2.TokenUsage) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "image_tokens": usage.image_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finite(logprob: float) -> float:
    """A logarithm of a probability that JSON can carry."""
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB


class Tally:
    """Adds up what one answer has used and which of its choices have ended; `parts` requests make up the answer."""

    def __init__(self, choices: int, parts: int = 1) -> None:
        self._unfinished = set(range(choices * parts))
        self._parts_without_usage = set(range(parts))
        self.usage = common_pb2.TokenUsage()
        self.fingerprint: str | None = None

    def message(self, message: chat_pb2.ChatResponse | chat_pb2.CompleteResponse, part: int) -> None:
        """Notes what a message says beside its deltas."""
        if message.fingerprint and self.fingerprint is None:
            self.fingerprint = message.fingerprint
        if message.HasField("usage"):
            self._parts_without_usage.discard(part)
            self.usage.prompt_tokens += message.usage.prompt_tokens
            self.usage.cached_tokens += message.usage.cached_tokens
            self.usage.completion_tokens += message.usage.completion_tokens
            self.usage.image_tokens += message.usage.image_tokens
            self.usage.reasoning_tokens += message.usage.reasoning_tokens

    def finished(self, choice: int) -> None:
        """Notes that a choice has ended."""
        self._unfinished.discard(choice)

    def require_complete(self) -> None:
        """Raises AnswerError when a choice has not ended or usage is missing."""
        if self._unfinished:
            raise AnswerError(f"the replica ended the answer before choices {sorted(self._unfinished)} were finished")
        if self._parts_without_usage:
            raise AnswerError("the replica ended the answer without saying what it used")
