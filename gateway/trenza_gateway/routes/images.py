"""POST /v1/images/generations, /v1/images/edits and /v1/images/variations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2
from trenza_runtime.errors import RpcFault

from trenza_gateway.dispatch.calls import edit_call, generate_call, vary_call
from trenza_gateway.dispatch.intake.images import ImagesIntake
from trenza_gateway.media.store import MediaError
from trenza_gateway.openai.encoding import json_bytes
from trenza_gateway.openai.errors import bad_request, error_of_fault
from trenza_gateway.openai.fields import Rule, unknown_fields
from trenza_gateway.openai.images import MEDIA_TYPES, Drawn, PictureEvents, WholePictures
from trenza_gateway.openai.images_pieces import Base64, Raw, with_picture
from trenza_gateway.openai.images_requests import (
    EDIT_FIELDS,
    GENERATION_FIELDS,
    VARIATION_FIELDS,
    DrawingBody,
    StreamableBody,
    drawing_options,
    edit_body,
    generation_body,
    variation_body,
    without_effect,
)
from trenza_gateway.routes.answering import EventStream, Work, carried_out
from trenza_gateway.routes.images_documentation import (
    EDIT_DOCUMENTATION,
    GENERATION_DOCUMENTATION,
    VARIATION_DOCUMENTATION,
)
from trenza_gateway.routes.images_sending import PiecesResponse
from trenza_gateway.routes.images_uploads import Given, given_pictures
from trenza_gateway.routes.media import media_unavailable
from trenza_gateway.routes.parts import Parts, answer_headers, request_context

PROMPT = "prompt"
IMAGE = "image"

MessageT = TypeVar("MessageT", bound=Drawn)


def images_router(parts: Parts) -> APIRouter:
    """The routes of pictures."""
    router = APIRouter(tags=["Images"])
    drawing = _Drawing(parts)

    @router.post("/v1/images/generations", summary="Draw from a text", openapi_extra=GENERATION_DOCUMENTATION)
    async def generations(request: Request) -> Response:
        return await drawing.generate(request)

    @router.post("/v1/images/edits", summary="Redraw pictures as a text says", openapi_extra=EDIT_DOCUMENTATION)
    async def edits(request: Request) -> Response:
        return await drawing.edit(request)

    @router.post(
        "/v1/images/variations", summary="Draw pictures like a given one", openapi_extra=VARIATION_DOCUMENTATION
    )
    async def variations(request: Request) -> Response:
        return await drawing.vary(request)

    return router


class _Drawing:
    """From a request to its answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._intake = ImagesIntake(parts.intake)

    async def generate(self, request: Request) -> Response:
        """Draws from a text."""
        body = generation_body(await self._parts.bodies.read(request))
        ignored = _ignored(body, GENERATION_FIELDS)
        proto = images_pb2.GenerateRequest(prompt=body.prompt, options=drawing_options(body))
        proto.context.CopyFrom(self._context(request, body, common_pb2.CAPABILITY_IMAGE_GENERATION))
        with _as_api_error(PROMPT):
            job = self._intake.generation(proto)
        drawn = self._parts.dispatcher.run(job, generate_call(proto))
        return await self._answer(request, body, self._work(drawn, ignored, PROMPT), "image_generation")

    async def edit(self, request: Request) -> Response:
        """Redraws pictures."""
        form = await self._parts.uploads.read(request, self._parts.image_limit_bytes, IMAGE)
        body = edit_body(form.fields)
        given = given_pictures(form, with_mask=True)
        ignored = [*_ignored(body, EDIT_FIELDS), *given.ignored]
        config = images_pb2.EditConfig(prompt=body.prompt, options=drawing_options(body))
        config.context.CopyFrom(self._context(request, body, common_pb2.CAPABILITY_IMAGE_EDIT))
        with _as_api_error(PROMPT):
            job = self._intake.edit(config)
        drawn = self._parts.dispatcher.run(job, edit_call(partial(_edit_messages, config, given)))
        return await self._answer(request, body, self._work(drawn, ignored, PROMPT), "image_edit")

    async def vary(self, request: Request) -> Response:
        """Draws pictures like a given one."""
        form = await self._parts.uploads.read(request, self._parts.image_limit_bytes, IMAGE)
        body = variation_body(form.fields)
        given = given_pictures(form, with_mask=False)
        ignored = [*_ignored(body, VARIATION_FIELDS), *given.ignored]
        config = images_pb2.VaryConfig(options=drawing_options(body))
        config.context.CopyFrom(self._context(request, body, common_pb2.CAPABILITY_IMAGE_EDIT))
        with _as_api_error(IMAGE):
            job = self._intake.variation(config)
        drawn = self._parts.dispatcher.run(job, vary_call(partial(_vary_messages, config, given)))
        return await self._answer(request, body, self._work(drawn, ignored, IMAGE), "image_variation")

    def _context(
        self, request: Request, body: DrawingBody, capability: common_pb2.Capability.ValueType
    ) -> common_pb2.RequestContext:
        """The context, with the model that is meant where none is named."""
        if not body.model:
            able = self._parts.intake.offering(common_pb2.MODALITY_IMAGES, capability)
            if not able:
                message = "No model is named, and none that can do this is served now."
                raise bad_request(message, param="model", code="missing_required_parameter")
            body.model = min(able)
        return request_context(request, body)

    def _work(self, drawn: AsyncGenerator[MessageT, None], ignored: list[str], prompt_param: str) -> Work[MessageT]:
        return Work([drawn], answer_headers(ignored), prompt_param, self._parts.silence_s)

    async def _answer(self, request: Request, body: DrawingBody, work: Work[MessageT], kind: str) -> Response:
        hold = partial(self._parts.answers.hold, request.scope)
        if isinstance(body, StreamableBody) and body.stream:
            return EventStream(work, PictureEvents(kind, body, self._parts.wall_clock, hold))
        if body.response_format == "url":
            linked = self._links(request, work, WholePictures(body, self._parts.wall_clock, Raw, hold), body)
            return PiecesResponse(await carried_out(request, work, linked), work.headers)
        carried = _carried(work, WholePictures(body, self._parts.wall_clock, Base64, hold))
        return PiecesResponse(await carried_out(request, work, carried), work.headers)

    async def _links(
        self, request: Request, work: Work[MessageT], answer: WholePictures[Raw], body: DrawingBody
    ) -> list[bytes]:
        """The pictures in the store, and links to them."""
        await _gather(work, answer)
        items = []
        for picture in answer.pictures():
            try:
                token = await self._parts.media.put(picture.content, MEDIA_TYPES[body.format])
            except MediaError as error:
                raise media_unavailable(error) from error
            items.append([json_bytes({"url": self._parts.links.to(token, request), "seed": picture.seed})])
        return answer.json(items)


async def _carried(work: Work[MessageT], answer: WholePictures[Base64]) -> list[bytes]:
    """The pictures inside the answer."""
    await _gather(work, answer)
    return answer.json([with_picture(picture.content, {"seed": picture.seed}) for picture in answer.pictures()])


async def _gather(work: Work[MessageT], answer: WholePictures[Raw] | WholePictures[Base64]) -> None:
    async with aclosing(work.parts[0]) as messages:
        async for message in messages:
            answer.add(message)


async def _edit_messages(
    config: images_pb2.EditConfig, given: Given, lease_id: str
) -> AsyncIterator[images_pb2.EditRequest]:
    config.context.lease_id = lease_id
    yield images_pb2.EditRequest(config=config)
    async for chunk in given.chunks():
        yield images_pb2.EditRequest(chunk=chunk)


async def _vary_messages(
    config: images_pb2.VaryConfig, given: Given, lease_id: str
) -> AsyncIterator[images_pb2.VaryRequest]:
    config.context.lease_id = lease_id
    yield images_pb2.VaryRequest(config=config)
    async for chunk in given.chunks():
        yield images_pb2.VaryRequest(chunk=chunk)


def _ignored(body: DrawingBody, table: Mapping[str, Rule]) -> list[str]:
    return [*unknown_fields(body.model_extra or {}, table), *without_effect(body)]


@contextmanager
def _as_api_error(prompt_param: str) -> Iterator[None]:
    try:
        yield
    except RpcFault as fault:
        raise error_of_fault(fault, prompt_param) from fault
