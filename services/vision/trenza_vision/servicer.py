"""The vision API on top of a host of models: proto in, engine events out, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from trenza.chat.v1 import chat_pb2
from trenza.vision.v1 import vision_pb2 as pb
from trenza.vision.v1 import vision_pb2_grpc
from trenza_llama.api.calls import Calls
from trenza_llama.api.requests import chat_choices, count_request
from trenza_llama.engine import Picture
from trenza_runtime.models.host import LoadedModel, ModelHost
from trenza_runtime.rpc.deadline import time_limit

from trenza_vision import metrics, translate
from trenza_vision.core.room import Room, RoomFull
from trenza_vision.opening import PictureOpener
from trenza_vision.uploads import UploadLimits, UploadT, receive

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class VisionLimits:
    """What the service takes on.

    `request_s` bounds the time of a call whose deadline is later or missing, its upload included; `picture_side` is the longest
    side, in pixels, at which a picture is shown; `held_bytes` are all pictures of all requests, as files and as pixels.
    """

    request_s: float
    upload: UploadLimits
    picture_side: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """A conversation whose model is loaded and whose pictures are open, one for each of its image parts."""

    model: LoadedModel
    conversation: chat_pb2.ChatRequest
    pictures: Sequence[Picture]


class VisionServicer(vision_pb2_grpc.VisionServiceServicer):
    """Serves `trenza.vision.v1.VisionService`."""

    def __init__(self, host: ModelHost, opener: PictureOpener, limits: VisionLimits) -> None:
        self._calls = Calls(host)
        self._opener = opener
        self._limits = limits
        self._room = Room(limits.held_bytes)

    async def Describe(
        self, requests: AsyncIterator[pb.DescribeRequest], context: Context
    ) -> AsyncIterator[pb.DescribeResponse]:
        async with self._asked(requests, context) as asked:
            model, conversation = asked.model, asked.conversation
            choices = chat_choices(conversation, model.manifest.defaults, asked.pictures)
            translate.check_pixels(asked.pictures, len(choices))
            async with self._calls.run(model, choices, conversation.context) as running:
                look = translate.Look(running.answer)
                async for events in running.events:
                    for response in look.responses(events):
                        yield response
            usage, timings = running.answer.usage(), running.answer.timings(running.queued_s)
            metrics.count(model.name, usage, len(asked.pictures))
            yield pb.DescribeResponse(answer=chat_pb2.ChatResponse(usage=usage, timings=timings))

    async def CountTokens(
        self, requests: AsyncIterator[pb.CountTokensRequest], context: Context
    ) -> pb.CountTokensResponse:
        async with self._asked(requests, context) as asked:
            translate.check_pixels(asked.pictures, 1)
            request = count_request(asked.conversation.messages, asked.pictures)
            counted = await self._calls.count(asked.model, request, asked.conversation.context)
            return pb.CountTokensResponse(
                prompt_tokens=counted.prompt_tokens,
                image_tokens=counted.image_tokens,
                context_length=int(asked.model.facts.properties["context_length"]),
            )

    @asynccontextmanager
    async def _asked(self, requests: AsyncIterator[UploadT], context: Context) -> AsyncIterator[_Asked]:
        """What is asked, for as long as the call may take."""
        limits = self._limits
        async with time_limit(context, limits.request_s) as limit_s:
            try:
                with self._room.share() as share:
                    upload = await receive(requests, limits.upload, share)
                    conversation = upload.conversation
                    shown = translate.shown_pictures(
                        conversation.messages, upload.files, limits.picture_side, limits.upload.pictures
                    )
                    async with self._calls.model(conversation.context, limit_s) as model:
                        pictures = await self._opener.open(shown, share)
                        share.give_back(upload.size_bytes)
                        del upload, shown  # the files have done their part, and answers take long
                        yield _Asked(model, translate.without_files(conversation), pictures)
            except RoomFull as full:
                raise translate.no_room(full.limit_bytes) from None
