"""POST /vision, as the original system has it: a picture beside a conversation, and a turn in return."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from trenza_gateway.openai.errors import ApiError
from trenza_gateway.openai.original_vision import OriginalVisionAnswer, original_vision_body
from trenza_gateway.routes.answering import answer_whole
from trenza_gateway.routes.conversing import Conversations
from trenza_gateway.routes.parts import Parts
from trenza_gateway.routes.vision_documentation import ORIGINAL_VISION_DOCUMENTATION

NO_SUCH_MODEL = "The model does not exist in the server"
_AS_400 = frozenset({400, 404, 413, 415})
"""What is the request's own fault is a 400 there."""


def original_vision_router(parts: Parts) -> APIRouter:
    """The route of the original system's clients."""
    router = APIRouter(tags=["The original system's"])
    conversations = Conversations(parts)

    @router.post("/vision", summary="Answer about a picture", openapi_extra=ORIGINAL_VISION_DOCUMENTATION)
    async def vision(request: Request) -> Response:
        try:
            body, ignored = original_vision_body(await parts.bodies.read(request, with_pictures=True))
            work = await conversations.begin(request, body, ignored)
            answer = OriginalVisionAnswer(parts.identity("vision", body.model), body)
            return await answer_whole(request, work, answer)
        except ApiError as error:
            return _plain(error)

    return router


def _plain(error: ApiError) -> Response:
    """An error as those clients know it: a sentence in plain text."""
    message = NO_SUCH_MODEL if error.code == "model_not_found" else error.message
    status = 400 if error.status in _AS_400 else error.status
    return Response(message, status, error.headers(), "text/plain")
