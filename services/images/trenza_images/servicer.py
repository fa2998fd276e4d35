"""The images API on top of a host of models: proto in, engine events out, nothing else."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2 as pb
from trenza.images.v1 import images_pb2_grpc
from trenza_runtime.errors import RpcFault
from trenza_runtime.models.host import ModelHost
from trenza_runtime.rpc.deadline import time_limit
from trenza_runtime.worker.process import EventStream

from trenza_images import engine, metrics, translate
from trenza_images.uploads import Upload, Uploaded

Context = grpc.aio.ServicerContext[Any, Any]
UploadT = TypeVar("UploadT", pb.EditRequest, pb.VaryRequest)


class ImagesServicer(images_pb2_grpc.ImagesServiceServicer):
    """Serves `trenza.images.v1.ImagesService`.

    `request_limit_s` bounds the time of a call whose deadline is later or missing, its upload included; `upload_limit_bytes` the
    pictures that come with it.
    """

    def __init__(self, host: ModelHost, request_limit_s: float, upload_limit_bytes: int) -> None:
        self._host = host
        self._request_limit_s = request_limit_s
        self._upload_limit_bytes = upload_limit_bytes
        self._numbers = itertools.count()

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        async with time_limit(context, self._request_limit_s) as limit_s:
            wanted = translate.draw_request("generate", request.prompt, request.options)
            async with self._drawing(wanted, request.context, limit_s) as events:
                async for event in events:
                    yield pb.GenerateResponse(event=event)

    async def Edit(self, requests: AsyncIterator[pb.EditRequest], context: Context) -> AsyncIterator[pb.EditResponse]:
        async with time_limit(context, self._request_limit_s) as limit_s:
            async with self._heard_out(requests):
                config = (await _configuration(requests)).config
                translate.draw_request("edit", config.prompt, config.options)  # before the upload, which may be long
                given = await self._upload(requests)
            wanted = translate.draw_request("edit", config.prompt, config.options, given.sources, given.mask)
            async with self._drawing(wanted, config.context, limit_s) as events:
                async for event in events:
                    yield pb.EditResponse(event=event)

    async def Vary(self, requests: AsyncIterator[pb.VaryRequest], context: Context) -> AsyncIterator[pb.VaryResponse]:
        async with time_limit(context, self._request_limit_s) as limit_s:
            async with self._heard_out(requests):
                config = (await _configuration(requests)).config
                translate.draw_request("vary", "", config.options)
                given = await self._upload(requests)
            if given.mask is not None:
                raise translate.invalid("mask", "A variation takes no mask.")
            wanted = translate.draw_request("vary", "", config.options, given.sources)
            async with self._drawing(wanted, config.context, limit_s) as events:
                async for event in events:
                    yield pb.VaryResponse(event=event)

    @asynccontextmanager
    async def _heard_out(self, requests: AsyncIterator[UploadT]) -> AsyncIterator[None]:
        """Refuses only when the client has said everything, within limits: one that still sends may not hear why it is refused."""
        try:
            yield
        except RpcFault:
            size_bytes = 0
            async for message in requests:
                size_bytes += message.ByteSize()
                if size_bytes > self._upload_limit_bytes:
                    break
            raise

    async def _upload(self, requests: AsyncIterator[UploadT]) -> Uploaded:
        upload = Upload(self._upload_limit_bytes)
        async for message in requests:
            if message.WhichOneof("message") != "chunk":
                raise translate.invalid("image", "After the configuration come pictures only.")
            upload.take(message.chunk)
        return upload.finish()

    @asynccontextmanager
    async def _drawing(
        self, wanted: engine.DrawRequest, asked: common_pb2.RequestContext, limit_s: float
    ) -> AsyncIterator[AsyncIterator[pb.DrawingEvent]]:
        """Takes a slot for each picture, as far as there are any, and draws; leaving the block cancels what has not ended."""
        if not asked.model:
            raise translate.invalid("model", "The request names no model.")
        # Unique even where two clients chose the same request id.
        name = f"{asked.request_id}#{next(self._numbers)}"
        answer = translate.Answer(wanted.encoding)
        async with (
            self._host.use(asked.model, limit_s) as model,
            model.gate.place(asked.priority, wanted.count) as queued_s,
            model.worker.open({name: wanted}) as stream,
        ):
            yield _messages(stream, answer, queued_s)
        if answer.drawn is not None:
            metrics.count(model.name, wanted.task, answer.drawn)


async def _messages(stream: EventStream, answer: translate.Answer, queue_s: float) -> AsyncIterator[pb.DrawingEvent]:
    async for events in stream:
        for _, event in events:
            for message in answer.messages(event, queue_s):
                yield message


async def _configuration(requests: AsyncIterator[UploadT]) -> UploadT:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("message") != "config":
        raise translate.invalid("config", "The first message of an upload must be its configuration.")
    return first
