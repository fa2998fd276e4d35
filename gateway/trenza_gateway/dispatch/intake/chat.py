"""The jobs of the chat API: can the prompt fit, how many choices, which beginnings it shares with others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch.core.affinity import prefix_hashes, size_estimate
from trenza_gateway.dispatch.core.context import cannot_fit, least_tokens
from trenza_gateway.dispatch.intake.intake import Effort, Intake
from trenza_gateway.dispatch.job import Job

MAX_CHOICES = 16


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The beginnings of a prompt that others may share, and its length."""

    pieces: list[bytes]

    @property
    def size_bytes(self) -> int:
        return sum(len(piece) for piece in self.pieces)


class ChatIntake:
    """Makes jobs of chat requests. Each method raises RpcFault for one that cannot be served whoever were to serve it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def chat(self, request: chat_pb2.ChatRequest, time_limit_s: float | None = None) -> Job:
        """A conversation's job. `time_limit_s` is the caller's own limit for the whole request."""
        model = self._require(request.context, common_pb2.CAPABILITY_CHAT)
        prompt = _Prompt([*_conversation(request.messages), *(tool.SerializeToString() for tool in request.tools)])
        return self._job(request.context, model, prompt, request.options, time_limit_s)

    def completion(self, request: chat_pb2.CompleteRequest, time_limit_s: float | None = None) -> Job:
        """A plain continuation's job."""
        model = self._require(request.context, common_pb2.CAPABILITY_COMPLETION)
        prompt = _Prompt([request.text.encode()] if request.HasField("text") else [])
        return self._job(request.context, model, prompt, request.options, time_limit_s)

    def embedding(self, request: chat_pb2.EmbedRequest, time_limit_s: float | None = None) -> Job:
        """The job of turning texts into vectors."""
        model = self._require(request.context, common_pb2.CAPABILITY_EMBEDDING)
        return self._job(request.context, model, _Prompt([]), chat_pb2.GenerationOptions(max_tokens=0), time_limit_s)

    def token_count(self, request: chat_pb2.CountTokensRequest, time_limit_s: float | None = None) -> Job:
        """The job of counting a conversation's tokens."""
        model = self._require(request.context, common_pb2.CAPABILITY_CHAT)
        return self._job(request.context, model, _Prompt([]), chat_pb2.GenerationOptions(max_tokens=0), time_limit_s)

    def _require(
        self, context: common_pb2.RequestContext, capability: common_pb2.Capability.ValueType
    ) -> common_pb2.Model:
        return self._intake.require(context.model, common_pb2.MODALITY_CHAT, capability)

    def _job(
        self,
        context: common_pb2.RequestContext,
        model: common_pb2.Model,
        prompt: _Prompt,
        options: chat_pb2.GenerationOptions,
        time_limit_s: float | None,
    ) -> Job:
        most = min(MAX_CHOICES, self._intake.most_slots(context.model) or MAX_CHOICES)
        if options.choices > most:
            message = f"At most {most} choices can be made at once."
            raise RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, {"param": "n"})
        _require_fit(prompt.size_bytes, model.context_length)
        max_tokens = options.max_tokens if options.HasField("max_tokens") else None
        effort = Effort(
            slots=options.choices,
            size_estimate=size_estimate(prompt.size_bytes, max_tokens, options.choices),
            prefix_hashes=prefix_hashes(prompt.pieces),
        )
        return self._intake.job(context, common_pb2.MODALITY_CHAT, effort, time_limit_s)


def _require_fit(prompt_bytes: int, context_length: int) -> None:
    if cannot_fit(prompt_bytes, context_length):
        least = least_tokens(prompt_bytes)
        raise RpcFault(
            grpc.StatusCode.INVALID_ARGUMENT,
            Reason.CONTEXT_LENGTH_EXCEEDED,
            f"This model's context is {context_length} tokens; the prompt has at least {least}.",
            {"limit": str(context_length), "prompt_tokens": str(least)},
        )


def _conversation(messages: Iterable[chat_pb2.Message]) -> list[bytes]:
    return [_turn(message) for message in messages]


def _turn(message: chat_pb2.Message) -> bytes:
    """A turn's bytes: texts as they are, so that their length says something about tokens; the rest as a short sign."""
    texts = b"".join(part.text.encode() for part in message.content)
    return b"%d" % message.role + texts
