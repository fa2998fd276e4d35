"""POST /v1/audio/speech and GET /v1/audio/voices."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import RpcFault

from trenza_gateway.dispatch.calls import speak_call
from trenza_gateway.dispatch.intake.audio import AudioIntake
from trenza_gateway.dispatch.voices import Voices
from trenza_gateway.openai.audio_voices import voice_list, wanted_language
from trenza_gateway.openai.bodies import parse_json
from trenza_gateway.openai.errors import error_of_fault
from trenza_gateway.openai.fields import unknown_fields
from trenza_gateway.openai.speech import MEDIA_TYPES, SPEECH_FIELDS, SpeechBody, SpeechEvents, speech_request
from trenza_gateway.routes.answering import EventStream, Work, while_client_listens
from trenza_gateway.routes.audio_documentation import SPEECH_DOCUMENTATION
from trenza_gateway.routes.audio_sound import SoundStream
from trenza_gateway.routes.parts import Parts, answer_headers, caller_of, request_context

INPUT = "input"


def speech_router(parts: Parts) -> APIRouter:
    """The routes of speech."""
    router = APIRouter(tags=["Audio"])
    intake = AudioIntake(parts.intake)
    voices = Voices(intake, parts.dispatcher)

    @router.post("/v1/audio/speech", summary="Speak a text", openapi_extra=SPEECH_DOCUMENTATION)
    async def speech(request: Request) -> Response:
        body = parse_json(SpeechBody, await parts.bodies.read(request))
        ignored = unknown_fields(body.model_extra or {}, SPEECH_FIELDS)
        proto = speech_request(body)
        proto.context.CopyFrom(request_context(request, body))
        try:
            job = intake.speech(proto)
        except RpcFault as fault:
            raise error_of_fault(fault, INPUT) from fault
        spoken = parts.dispatcher.run(job, speak_call(proto))
        work = Work([spoken], answer_headers(ignored), INPUT, parts.silence_s)
        if body.stream_format == "sse":
            return EventStream(work, SpeechEvents())
        return SoundStream(work, MEDIA_TYPES[body.response_format])

    @router.get("/v1/audio/voices", summary="List the voices of one model or of all")
    async def list_voices(
        request: Request,
        model: Annotated[str, Query(description="Only this model's.")] = "",
        language: Annotated[str, Query(description="Only those that speak it; ISO 639-1.")] = "",
    ) -> dict[str, Any]:
        caller = caller_of(request)
        context = common_pb2.RequestContext(request_id=caller.ticket_id, model=model, tenant=caller.tenant)
        wanted = audio_pb2.ListVoicesRequest(context=context, language=wanted_language(language))
        try:
            found = await while_client_listens(request.receive, voices.list(wanted))
        except RpcFault as fault:
            raise error_of_fault(fault, "model") from fault
        return voice_list(found)

    return router
