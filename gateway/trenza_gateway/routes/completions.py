"""POST /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from trenza_runtime.errors import RpcFault

from trenza_gateway.dispatch.calls import complete_call
from trenza_gateway.dispatch.intake.chat import ChatIntake
from trenza_gateway.openai.completions import CompletionAnswer, CompletionChunks, completion_requests
from trenza_gateway.openai.errors import error_of_fault
from trenza_gateway.openai.fields import COMPLETION_FIELDS, unknown_fields
from trenza_gateway.openai.requests import CompletionBody, parse
from trenza_gateway.routes.answering import EventStream, Work, answer_whole
from trenza_gateway.routes.documentation import COMPLETION_DOCUMENTATION
from trenza_gateway.routes.parts import Parts, answer_headers, request_context

PROMPT_PARAM = "prompt"


def completions_router(parts: Parts) -> APIRouter:
    """The route of plain completions."""
    router = APIRouter(tags=["Text"])
    intake = ChatIntake(parts.intake)

    @router.post("/v1/completions", summary="Continue texts", openapi_extra=COMPLETION_DOCUMENTATION)
    async def completions(request: Request) -> Response:
        body = parse(CompletionBody, await parts.bodies.read(request))
        ignored = unknown_fields(body.model_extra or {}, COMPLETION_FIELDS)
        protos = completion_requests(body)
        context = request_context(request, body, body.session_id)
        for number, proto in enumerate(protos):
            proto.context.CopyFrom(context)
            if len(protos) > 1:
                proto.context.request_id = f"{context.request_id}.{number}"
        try:
            jobs = [intake.completion(proto) for proto in protos]
        except RpcFault as fault:
            raise error_of_fault(fault, PROMPT_PARAM) from fault
        answers = [parts.dispatcher.run(job, complete_call(proto)) for job, proto in zip(jobs, protos, strict=True)]
        work = Work(answers, answer_headers(ignored), PROMPT_PARAM, parts.silence_s)
        identity = parts.identity("cmpl", body.model)
        if body.stream:
            return EventStream(work, CompletionChunks(identity, body, len(protos)))
        return await answer_whole(request, work, CompletionAnswer(identity, body, len(protos)))

    return router
