"""From a conversation to the running answer: by the chat service, or by the vision service where the model sees."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial

from fastapi import Request
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2
from trenza_runtime.errors import RpcFault

from trenza_gateway.dispatch.calls import chat_call, describe_call
from trenza_gateway.dispatch.intake.chat import ChatIntake
from trenza_gateway.dispatch.intake.vision import VisionIntake
from trenza_gateway.openai.chat import chat_request, shown_pictures
from trenza_gateway.openai.errors import error_of_fault
from trenza_gateway.openai.requests import ChatBody, ImageUrl
from trenza_gateway.pictures.gathering import Gathered, Shown
from trenza_gateway.pictures.picture import EncodedPicture
from trenza_gateway.routes.answering import Work, while_client_listens
from trenza_gateway.routes.parts import Parts, answer_headers, request_context

PROMPT_PARAM = "messages"

_UPLOAD_PARAM = "image_chunk"
"""What the vision service calls the pictures as a whole."""


class Conversations:
    """Begins the answers to conversations."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._chat = ChatIntake(parts.intake)
        self._vision = VisionIntake(parts.intake)

    async def begin(self, request: Request, body: ChatBody, ignored: list[str]) -> Work[chat_pb2.ChatResponse]:
        """The work of answering, by whichever service runs the model. Raises ApiError, or ClientGone."""
        try:
            if self._parts.intake.modality(body.model) == common_pb2.MODALITY_VISION:
                answer = await self._described(request, body)
            else:
                answer = self._answered(request, body)
        except RpcFault as fault:
            raise error_of_fault(fault, PROMPT_PARAM) from fault
        return Work([answer], answer_headers(ignored), PROMPT_PARAM, self._parts.silence_s)

    def _answered(self, request: Request, body: ChatBody) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
        # The numbers are never used: a model that cannot see is not shown anything.
        proto = chat_request(body, (0 for _ in shown_pictures(body)))
        proto.context.CopyFrom(_context(request, body))
        return self._parts.dispatcher.run(self._chat.chat(proto), chat_call(proto))

    async def _described(self, request: Request, body: ChatBody) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
        seen = await self._gathered(request, [*shown_pictures(body)])
        proto = chat_request(body, seen.numbers)
        proto.context.CopyFrom(_context(request, body))
        job = self._vision.description(proto, [picture.digest for picture in seen.pictures])
        return _answers(self._parts.dispatcher.run(job, describe_call(partial(_messages, proto, seen.pictures))))

    async def _gathered(self, request: Request, shown: Sequence[tuple[str, ImageUrl]]) -> Gathered:
        """The pictures; what they were in the request is forgotten, since it takes more memory than they do."""
        if not shown:
            return Gathered((), ())
        gathering = self._parts.pictures.gather(request.scope, [Shown(param, image.url) for param, image in shown])
        for _, image in shown:
            image.url = ""
        found: Gathered = await while_client_listens(request.receive, gathering)
        return found


def _context(request: Request, body: ChatBody) -> common_pb2.RequestContext:
    return request_context(request, body, body.session_id or body.prompt_cache_key)


async def _messages(
    proto: chat_pb2.ChatRequest, pictures: Sequence[EncodedPicture], lease_id: str
) -> AsyncIterator[vision_pb2.DescribeRequest]:
    """The upload: the pictures piece by piece, then the conversation."""
    for index, picture in enumerate(pictures):
        for chunk in picture.chunks(index):
            yield vision_pb2.DescribeRequest(image_chunk=chunk)
    proto.context.lease_id = lease_id
    yield vision_pb2.DescribeRequest(conversation=proto)


async def _answers(
    described: AsyncGenerator[vision_pb2.DescribeResponse, None],
) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
    """What a description says as chat says it; how far the looking has come is told to nobody here."""
    try:
        async with aclosing(described) as messages:
            async for message in messages:
                if message.HasField("answer"):
                    yield message.answer
    except RpcFault as fault:
        if fault.details.get("param") != _UPLOAD_PARAM:
            raise
        details = {**fault.details, "param": PROMPT_PARAM}
        raise RpcFault(fault.code, fault.reason, fault.message, details, fault.retry_after_s) from fault
