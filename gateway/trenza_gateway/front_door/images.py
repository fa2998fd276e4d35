"""ImagesService for the whole fleet: each call is dispatched to a replica as an HTTP request would be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from trenza.images.v1 import images_pb2, images_pb2_grpc

from trenza_gateway import metrics
from trenza_gateway.dispatch.calls import edit_call, generate_call, vary_call
from trenza_gateway.dispatch.dispatcher import Dispatcher, MessageT, StartCall
from trenza_gateway.dispatch.intake.images import ImagesIntake
from trenza_gateway.dispatch.job import Job
from trenza_gateway.front_door.callers import Callers, Context
from trenza_gateway.front_door.uploading import configuration, heard_out, upload


class ImagesFrontDoor(images_pb2_grpc.ImagesServiceServicer):
    """The servicer. Faults raised here become rich statuses in the server."""

    def __init__(self, callers: Callers, intake: ImagesIntake, dispatcher: Dispatcher) -> None:
        self._callers = callers
        self._intake = intake
        self._dispatcher = dispatcher

    async def Generate(
        self, request: images_pb2.GenerateRequest, context: Context
    ) -> AsyncGenerator[images_pb2.GenerateResponse, None]:
        """Draws from a text."""
        self._callers.settle(context, request.context)
        job = self._intake.generation(request, context.time_remaining())
        async with aclosing(self._run(job, generate_call(request))) as messages:
            async for message in messages:
                yield message

    async def Edit(
        self, requests: AsyncIterator[images_pb2.EditRequest], context: Context
    ) -> AsyncGenerator[images_pb2.EditResponse, None]:
        """Redraws pictures."""
        async with heard_out(requests) as incoming:
            self._callers.tenant(context)
            first = await configuration(incoming)
            self._callers.settle(context, first.config.context)
            job = self._intake.edit(first.config, context.time_remaining())
            async with aclosing(self._run(job, edit_call(upload(first, incoming)))) as messages:
                async for message in messages:
                    yield message

    async def Vary(
        self, requests: AsyncIterator[images_pb2.VaryRequest], context: Context
    ) -> AsyncGenerator[images_pb2.VaryResponse, None]:
        """Draws pictures like a given one."""
        async with heard_out(requests) as incoming:
            self._callers.tenant(context)
            first = await configuration(incoming)
            self._callers.settle(context, first.config.context)
            job = self._intake.variation(first.config, context.time_remaining())
            async with aclosing(self._run(job, vary_call(upload(first, incoming)))) as messages:
                async for message in messages:
                    yield message

    async def _run(self, job: Job, call: StartCall[MessageT]) -> AsyncGenerator[MessageT, None]:
        with metrics.IN_FLIGHT.labels("grpc").track_inprogress():
            async with aclosing(self._dispatcher.run(job, call)) as messages:
                async for message in messages:
                    yield message
