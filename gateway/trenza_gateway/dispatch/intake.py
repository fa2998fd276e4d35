"""Turns a request's proto into a job: is there such a model, can the prompt fit, what does its ticket say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch import faults
from trenza_gateway.dispatch.core.affinity import prefix_hashes, size_estimate
from trenza_gateway.dispatch.core.context import cannot_fit, least_tokens
from trenza_gateway.dispatch.fleet import Fleet
from trenza_gateway.dispatch.job import Job

MAX_CHOICES = 16


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How long a request may take in all, and how long of that it may wait for a place; seconds."""

    request_s: float
    queue_wait_s: float


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The beginnings of a prompt that others may share, and its length."""

    pieces: list[bytes]

    @property
    def size_bytes(self) -> int:
        return sum(len(piece) for piece in self.pieces)


class Intake:
    """Makes jobs. Each method raises RpcFault for a request that cannot be served whoever were to serve it."""

    def __init__(self, fleet: Fleet, limits: JobLimits) -> None:
        self._fleet = fleet
        self._limits = limits

    def chat(self, request: chat_pb2.ChatRequest, time_limit_s: float | None = None) -> Job:
        """A conversation's job. `time_limit_s` is the caller's own limit for the whole request."""
        self._require(request.context.model, common_pb2.CAPABILITY_CHAT)
        prompt = _Prompt([*_conversation(request.messages), *(tool.SerializeToString() for tool in request.tools)])
        return self._job(request.context, prompt, request.options, time_limit_s)

    def completion(self, request: chat_pb2.CompleteRequest, time_limit_s: float | None = None) -> Job:
        """A plain continuation's job."""
        self._require(request.context.model, common_pb2.CAPABILITY_COMPLETION)
        prompt = _Prompt([request.text.encode()] if request.HasField("text") else [])
        return self._job(request.context, prompt, request.options, time_limit_s)

    def embedding(self, request: chat_pb2.EmbedRequest, time_limit_s: float | None = None) -> Job:
        """The job of turning texts into vectors."""
        self._require(request.context.model, common_pb2.CAPABILITY_EMBEDDING)
        return self._job(request.context, _Prompt([]), chat_pb2.GenerationOptions(max_tokens=0), time_limit_s)

    def token_count(self, request: chat_pb2.CountTokensRequest, time_limit_s: float | None = None) -> Job:
        """The job of counting a conversation's tokens."""
        self._require(request.context.model, common_pb2.CAPABILITY_CHAT)
        return self._job(request.context, _Prompt([]), chat_pb2.GenerationOptions(max_tokens=0), time_limit_s)

    def _require(self, name: str, capability: common_pb2.Capability.ValueType) -> None:
        """Raises unless the fleet has the model and the model can do this."""
        model, picture = self._fleet.model(name), self._fleet.picture
        if model is None:
            raise faults.model_not_found(name) if picture and picture.settled else faults.no_capacity(name)
        if model.modality != common_pb2.MODALITY_CHAT or (model.capabilities and capability not in model.capabilities):
            raise _unsupported(
                f"The model '{name}' cannot be used here: it does not offer this kind of request.", "model"
            )

    def _job(
        self,
        context: common_pb2.RequestContext,
        prompt: _Prompt,
        options: chat_pb2.GenerationOptions,
        time_limit_s: float | None,
    ) -> Job:
        most = min(MAX_CHOICES, self._fleet.most_slots(context.model) or MAX_CHOICES)
        if options.choices > most:
            message = f"At most {most} choices can be made at once."
            raise RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, {"param": "n"})
        model = self._fleet.model(context.model)
        self._require_fit(prompt.size_bytes, model.context_length if model else 0)
        now = asyncio.get_running_loop().time()
        deadline = now + min(self._limits.request_s, time_limit_s or self._limits.request_s)
        max_tokens = options.max_tokens if options.HasField("max_tokens") else None
        return Job(
            request_id=context.request_id,
            model=context.model,
            modality=common_pb2.MODALITY_CHAT,
            priority=context.priority or common_pb2.PRIORITY_CLASS_NORMAL,
            tenant=context.tenant,
            session_id=context.session_id,
            slots=max(1, options.choices),
            size_estimate=size_estimate(prompt.size_bytes, max_tokens, options.choices),
            prefix_hashes=prefix_hashes(prompt.pieces),
            arrived_at=now,
            deadline=deadline,
            place_by=min(deadline, now + self._limits.queue_wait_s),
        )

    def _require_fit(self, prompt_bytes: int, context_length: int) -> None:
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


def _unsupported(message: str, param: str) -> RpcFault:
    return RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.UNSUPPORTED, message, {"param": param})
