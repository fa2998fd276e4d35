"""The jobs of the chat API: conversations of text, continuations, vectors and counts of tokens."""

from __future__ import annotations

from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2

from trenza_gateway.dispatch.intake.generating import Prompt, conversation, generation_job, pictured_params
from trenza_gateway.dispatch.intake.intake import Intake
from trenza_gateway.dispatch.job import Job


class ChatIntake:
    """Makes jobs of chat requests. Each method raises RpcFault for one that cannot be served whoever were to serve it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def chat(self, request: chat_pb2.ChatRequest, time_limit_s: float | None = None) -> Job:
        """A conversation's job. `time_limit_s` is the caller's own limit for the whole request."""
        if param := next(pictured_params(request.messages), None):
            self._intake.refuse_pictures(request.context.model, param)
        model = self._require(request.context, common_pb2.CAPABILITY_CHAT)
        pieces = [*conversation(request.messages), *(tool.SerializeToString() for tool in request.tools)]
        return generation_job(self._intake, model, request.context, Prompt(pieces), request.options, time_limit_s)

    def completion(self, request: chat_pb2.CompleteRequest, time_limit_s: float | None = None) -> Job:
        """A plain continuation's job."""
        model = self._require(request.context, common_pb2.CAPABILITY_COMPLETION)
        prompt = Prompt([request.text.encode()] if request.HasField("text") else [])
        return generation_job(self._intake, model, request.context, prompt, request.options, time_limit_s)

    def embedding(self, request: chat_pb2.EmbedRequest, time_limit_s: float | None = None) -> Job:
        """The job of turning texts into vectors."""
        return self._without_answer(request.context, common_pb2.CAPABILITY_EMBEDDING, time_limit_s)

    def token_count(self, request: chat_pb2.CountTokensRequest, time_limit_s: float | None = None) -> Job:
        """The job of counting a conversation's tokens."""
        return self._without_answer(request.context, common_pb2.CAPABILITY_CHAT, time_limit_s)

    def _require(
        self, context: common_pb2.RequestContext, capability: common_pb2.Capability.ValueType
    ) -> common_pb2.Model:
        return self._intake.require(context.model, common_pb2.MODALITY_CHAT, capability)

    def _without_answer(
        self,
        context: common_pb2.RequestContext,
        capability: common_pb2.Capability.ValueType,
        time_limit_s: float | None,
    ) -> Job:
        model = self._require(context, capability)
        options = chat_pb2.GenerationOptions(max_tokens=0)
        return generation_job(self._intake, model, context, Prompt([]), options, time_limit_s)
