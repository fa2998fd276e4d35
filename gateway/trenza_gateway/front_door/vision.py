"""VisionService for the whole fleet: each call is dispatched to a replica as an HTTP request would be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from trenza.vision.v1 import vision_pb2, vision_pb2_grpc

from trenza_gateway import metrics
from trenza_gateway.dispatch.calls import count_pictured_tokens_call, describe_call
from trenza_gateway.dispatch.dispatcher import Dispatcher, MessageT, StartCall
from trenza_gateway.dispatch.intake.vision import VisionIntake
from trenza_gateway.dispatch.job import Job
from trenza_gateway.front_door.callers import Callers, Context
from trenza_gateway.front_door.pictures import Incoming
from trenza_gateway.front_door.single import only
from trenza_gateway.front_door.uploading import heard_out


class VisionFrontDoor(vision_pb2_grpc.VisionServiceServicer):
    """The servicer. Faults raised here become rich statuses in the server."""

    def __init__(self, callers: Callers, intake: VisionIntake, dispatcher: Dispatcher, incoming: Incoming) -> None:
        self._callers = callers
        self._intake = intake
        self._dispatcher = dispatcher
        self._incoming = incoming

    async def Describe(
        self, requests: AsyncIterator[vision_pb2.DescribeRequest], context: Context
    ) -> AsyncGenerator[vision_pb2.DescribeResponse, None]:
        """Answers a conversation that may contain pictures."""
        async with heard_out(requests) as incoming:
            self._callers.tenant(context)
            with self._incoming.held() as held:
                asked = await self._incoming.receive(incoming, held)
                self._callers.settle(context, asked.conversation.context)
                job = self._intake.description(asked.conversation, asked.digests, context.time_remaining())
                call = describe_call(asked.upload(vision_pb2.DescribeRequest))
                async with aclosing(self._run(job, call)) as messages:
                    async for message in messages:
                        yield message

    async def CountTokens(
        self, requests: AsyncIterator[vision_pb2.CountTokensRequest], context: Context
    ) -> vision_pb2.CountTokensResponse:
        """Counts a conversation's tokens, pictures included."""
        async with heard_out(requests) as incoming:
            self._callers.tenant(context)
            with self._incoming.held() as held:
                asked = await self._incoming.receive(incoming, held)
                self._callers.settle(context, asked.conversation.context)
                job = self._intake.token_count(asked.conversation, context.time_remaining())
                call = count_pictured_tokens_call(asked.upload(vision_pb2.CountTokensRequest))
                return await only(self._run(job, call))

    async def _run(self, job: Job, call: StartCall[MessageT]) -> AsyncGenerator[MessageT, None]:
        with metrics.IN_FLIGHT.labels("grpc").track_inprogress():
            async with aclosing(self._dispatcher.run(job, call)) as messages:
                async for message in messages:
                    yield message
