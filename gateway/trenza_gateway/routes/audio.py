"""POST /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import RpcFault

from trenza_gateway.dispatch.calls import Upload, transcribe_call, translate_call
from trenza_gateway.dispatch.intake.audio import AudioIntake
from trenza_gateway.openai.audio_requests import HEARING_FIELDS, hearing_body, hearing_config
from trenza_gateway.openai.errors import bad_request, error_of_fault
from trenza_gateway.openai.fields import unknown_fields
from trenza_gateway.openai.transcripts import MEDIA_TYPES, Heard, StreamedTranscript, Task, WholeTranscript
from trenza_gateway.routes.answering import EventStream, Work, answer_whole
from trenza_gateway.routes.audio_documentation import TRANSCRIPTION_DOCUMENTATION, TRANSLATION_DOCUMENTATION
from trenza_gateway.routes.parts import Parts, answer_headers, request_context
from trenza_gateway.uploads import Form, FormFile

FILE = "file"

RequestT = TypeVar("RequestT", audio_pb2.TranscribeRequest, audio_pb2.TranslateRequest)


def hearing_router(parts: Parts) -> APIRouter:
    """The routes that turn sound into text."""
    router = APIRouter(tags=["Audio"])

    @router.post(
        "/v1/audio/transcriptions", summary="Write down what is said", openapi_extra=TRANSCRIPTION_DOCUMENTATION
    )
    async def transcriptions(request: Request) -> Response:
        return await _answer(parts, request, "transcribe")

    @router.post(
        "/v1/audio/translations",
        summary="Write down in English what is said in any language",
        openapi_extra=TRANSLATION_DOCUMENTATION,
    )
    async def translations(request: Request) -> Response:
        return await _answer(parts, request, "translate")

    return router


async def _answer(parts: Parts, request: Request, task: Task) -> Response:
    form = await parts.uploads.read(request, parts.audio_limit_bytes, FILE)
    body = hearing_body(form.fields)
    file = the_file(form)
    ignored = unknown_fields(body.model_extra or {}, HEARING_FIELDS)
    ignored += [name for name in form.files if name != FILE]
    config = hearing_config(body, _media(file))
    config.context.CopyFrom(request_context(request, body))
    try:
        heard = _dispatch(parts, task, config, file)
    except RpcFault as fault:
        raise error_of_fault(fault, FILE) from fault
    work = Work([heard], answer_headers(ignored), FILE, parts.silence_s)
    if body.stream:
        return EventStream(work, StreamedTranscript(body))
    return await answer_whole(request, work, WholeTranscript(body, task), MEDIA_TYPES[body.response_format])


def _dispatch(
    parts: Parts, task: Task, config: audio_pb2.TranscriptionConfig, file: FormFile
) -> AsyncGenerator[Heard, None]:
    intake = AudioIntake(parts.intake)
    if task == "transcribe":
        transcribe = transcribe_call(upload(audio_pb2.TranscribeRequest, config, file))
        return parts.dispatcher.run(intake.transcription(config), transcribe)
    translate = translate_call(upload(audio_pb2.TranslateRequest, config, file))
    return parts.dispatcher.run(intake.translation(config), translate)


def the_file(form: Form) -> FormFile:
    """The one file that there must be. Raises a 400 ApiError."""
    files = form.files.get(FILE, ())
    if not files and FILE in form.fields:
        raise bad_request("'file' must be a file, with a file name.", param=FILE, code="invalid_value")
    if not files:
        raise bad_request("Missing required field: 'file'.", param=FILE, code="missing_required_parameter")
    if len(files) > 1 or FILE in form.fields:
        raise bad_request("There must be one 'file'.", param=FILE, code="invalid_value")
    if files[0].size_bytes == 0:
        raise bad_request("The file is empty.", param=FILE, code="invalid_value")
    return files[0]


def upload(kind: type[RequestT], config: audio_pb2.TranscriptionConfig, file: FormFile) -> Upload[RequestT]:
    """The messages of an upload: the configuration under a lease, then the file."""

    async def begin(lease_id: str) -> AsyncIterator[RequestT]:
        config.context.lease_id = lease_id
        yield kind(config=config)
        async for chunk in file.chunks():
            yield kind(chunk=chunk)

    return begin


def _media(file: FormFile) -> common_pb2.MediaDescription:
    return common_pb2.MediaDescription(media_type=file.media_type, file_name=file.name, size_bytes=file.size_bytes)
