"""The jobs of the vision API: conversations with models that see, whether they show pictures or not."""

from __future__ import annotations

from collections.abc import Sequence

from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2

from trenza_gateway.dispatch.intake.generating import Prompt, conversation, generation_job, pictured_params
from trenza_gateway.dispatch.intake.intake import Intake
from trenza_gateway.dispatch.job import Job


class VisionIntake:
    """Makes jobs of vision requests. Each method raises RpcFault for one that cannot be served whoever were to serve it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def description(
        self, request: chat_pb2.ChatRequest, uploads: Sequence[bytes], time_limit_s: float | None = None
    ) -> Job:
        """A conversation's job. `uploads` are digests of its pictures by number, `time_limit_s` is the caller's own limit."""
        model = self._require(request)
        pieces = conversation(request.messages, uploads)
        pieces += [tool.SerializeToString() for tool in request.tools]
        prompt = Prompt(pieces, sum(1 for _ in pictured_params(request.messages)))
        return generation_job(self._intake, model, request.context, prompt, request.options, time_limit_s)

    def token_count(self, request: chat_pb2.ChatRequest, time_limit_s: float | None = None) -> Job:
        """The job of counting a conversation's tokens, pictures included."""
        model = self._require(request)
        options = chat_pb2.GenerationOptions(max_tokens=0)
        return generation_job(self._intake, model, request.context, Prompt([]), options, time_limit_s)

    def _require(self, request: chat_pb2.ChatRequest) -> common_pb2.Model:
        name = request.context.model
        if param := next(pictured_params(request.messages), None):
            self._intake.refuse_pictures(name, param)
        return self._intake.require(name, common_pb2.MODALITY_VISION, common_pb2.CAPABILITY_IMAGE_INPUT)
