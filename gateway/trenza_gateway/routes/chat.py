"""POST /v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from trenza_gateway.openai.chat import ChatAnswer, ChatChunks
from trenza_gateway.openai.fields import CHAT_FIELDS, unknown_fields
from trenza_gateway.openai.requests import ChatBody, parse
from trenza_gateway.routes.answering import EventStream, answer_whole
from trenza_gateway.routes.conversing import Conversations
from trenza_gateway.routes.documentation import CHAT_DOCUMENTATION
from trenza_gateway.routes.parts import Parts


def chat_router(parts: Parts) -> APIRouter:
    """The route of chat completions."""
    router = APIRouter(tags=["Text"])
    conversations = Conversations(parts)

    @router.post("/v1/chat/completions", summary="Answer a conversation", openapi_extra=CHAT_DOCUMENTATION)
    async def chat_completions(request: Request) -> Response:
        body = parse(ChatBody, await parts.bodies.read(request, with_pictures=True))
        ignored = unknown_fields(body.model_extra or {}, CHAT_FIELDS)
        work = await conversations.begin(request, body, ignored)
        identity = parts.identity("chatcmpl", body.model)
        if body.stream:
            return EventStream(work, ChatChunks(identity, body))
        return await answer_whole(request, work, ChatAnswer(identity, body))

    return router
