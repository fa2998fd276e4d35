"""POST /v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from trenza_runtime.errors import RpcFault

from trenza_gateway.dispatch.calls import chat_call
from trenza_gateway.dispatch.intake.chat import ChatIntake
from trenza_gateway.openai.chat import ChatAnswer, ChatChunks, chat_request
from trenza_gateway.openai.errors import error_of_fault
from trenza_gateway.openai.fields import CHAT_FIELDS, unknown_fields
from trenza_gateway.openai.requests import ChatBody, parse
from trenza_gateway.routes.answering import EventStream, Work, answer_whole
from trenza_gateway.routes.documentation import CHAT_DOCUMENTATION
from trenza_gateway.routes.parts import Parts, answer_headers, request_context

PROMPT_PARAM = "messages"


def chat_router(parts: Parts) -> APIRouter:
    """The route of chat completions."""
    router = APIRouter(tags=["Text"])
    intake = ChatIntake(parts.intake)

    @router.post("/v1/chat/completions", summary="Answer a conversation", openapi_extra=CHAT_DOCUMENTATION)
    async def chat_completions(request: Request) -> Response:
        body = parse(ChatBody, await parts.bodies.read(request))
        ignored = unknown_fields(body.model_extra or {}, CHAT_FIELDS)
        proto = chat_request(body)
        proto.context.CopyFrom(request_context(request, body, body.session_id or body.prompt_cache_key))
        try:
            job = intake.chat(proto)
        except RpcFault as fault:
            raise error_of_fault(fault, PROMPT_PARAM) from fault
        answer = parts.dispatcher.run(job, chat_call(proto))
        work = Work([answer], answer_headers(ignored), PROMPT_PARAM, parts.silence_s)
        identity = parts.identity("chatcmpl", body.model)
        if body.stream:
            return EventStream(work, ChatChunks(identity, body))
        return await answer_whole(request, work, ChatAnswer(identity, body))

    return router
