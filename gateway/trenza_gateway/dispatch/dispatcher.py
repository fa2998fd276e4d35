"""Carries a request through: a place, the call to the replica, another place if that fails early, and the release."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2
from trenza.vision.v1 import vision_pb2
from trenza_runtime.errors import Reason, RpcFault, from_rpc_error

from trenza_gateway import metrics
from trenza_gateway.dispatch import faults
from trenza_gateway.dispatch.core.leases import Lease
from trenza_gateway.dispatch.core.retrying import Ending, Failure, Verdict, judge, pause_s
from trenza_gateway.dispatch.intake.images import ImagesIntake
from trenza_gateway.dispatch.job import Job
from trenza_gateway.dispatch.placement import Placement
from trenza_gateway.dispatch.replicas import Replica, Replicas

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
MOST_PAUSE_S = 1.0
RECOVERY_S = 10.0
"""How long after the scheduler came back its picture may be too good, so that a full replica is no failed attempt."""

MessageT = TypeVar("MessageT", bound=Message)

Metadata = tuple[tuple[str, str], ...]
StartCall = Callable[[Replica, Lease, float, Metadata], AsyncGenerator[MessageT, None]]
"""Calls a replica under a lease, with a time limit in seconds and metadata; closing the generator cancels the call."""


class Dispatcher:
    """The one path of every request, HTTP or gRPC."""

    def __init__(self, placement: Placement, replicas: Replicas, attempt_limit: int, draw: Callable[[], float]) -> None:
        self._placement = placement
        self._replicas = replicas
        self._attempt_limit = attempt_limit
        self._draw = draw

    async def run(self, job: Job, start: StartCall[MessageT]) -> AsyncGenerator[MessageT, None]:
        """The replica's messages as they arrive. Closing or cancelling it cancels the call and ends the lease.

        Raises RpcFault. A failure before the first message leads to another attempt where that can help.
        """
        excluded: list[str] = []
        attempts = tries = 0
        while True:
            lease = await self._placement.place(job, excluded)
            attempts, tries = attempts + 1, tries + 1
            attempt = _Attempt(self._placement, lease, job)
            try:
                with self._replicas.at(lease.address, lease.modality) as replica, attempt:
                    time_left_s = max(0.001, job.deadline - _now())
                    async with aclosing(start(replica, lease, time_left_s, _metadata(job, lease))) as messages:
                        async for message in messages:
                            attempt.heard(message)
                            yield message
                return
            except grpc.aio.AioRpcError as error:
                fault = _fault(error, job, lease)
            verdict = self._judge(attempt, fault, attempts)
            attempt.release(verdict.ending)
            if not verdict.again:
                raise fault
            if not verdict.counts:
                attempts -= 1
            excluded = list({*excluded, lease.replica_id})
            metrics.RETRIES.labels(verdict.ending.value).inc()
            extra = {"ticket": job.request_id, "replica": lease.replica_id, "reason": fault.reason}
            logger.info("another attempt", extra=extra)
            await self._pause(job, tries)

    def _judge(self, attempt: _Attempt, fault: RpcFault, attempts: int) -> Verdict:
        failure = Failure(fault.code.name, fault.reason, attempt.begun)
        waits_for_room = not attempt.lease.from_scheduler or self._placement.scheduler_up_for_s < RECOVERY_S
        return judge(failure, attempts, self._attempt_limit, waits_for_room)

    async def _pause(self, job: Job, tries: int) -> None:
        pause = pause_s(tries, FIRST_PAUSE_S, MOST_PAUSE_S, self._draw())
        if _now() + pause >= job.deadline:
            raise faults.deadline_exceeded()
        await asyncio.sleep(pause)


_SOUND = (audio_pb2.TranscribeResponse, audio_pb2.TranslateResponse, audio_pb2.SpeakResponse)
_PICTURES = (images_pb2.GenerateResponse, images_pb2.EditResponse, images_pb2.VaryResponse)
_LOST_CODES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN})


class _Attempt:
    """One call under one lease: what it has brought so far, and that the lease ends with it, once."""

    def __init__(self, placement: Placement, lease: Lease, job: Job) -> None:
        self.lease = lease
        self.begun = False
        self._placement = placement
        self._job = job
        self._units = 0
        self._released = False

    def __enter__(self) -> _Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if kind is None:
            self.release(Ending.COMPLETED)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.release(Ending.CANCELLED)
        elif not isinstance(error, grpc.aio.AioRpcError):
            self.release(Ending.GATEWAY_ERROR)

    def heard(self, message: Message) -> None:
        """Notes a message."""
        if not self.begun:
            self.begun = True
            metrics.FIRST_MESSAGE_S.labels(self._job.model).observe(_now() - self._job.arrived_at)
        said = message.answer if isinstance(message, vision_pb2.DescribeResponse) else message
        usage = getattr(said, "usage", None)
        if isinstance(usage, common_pb2.TokenUsage) and (usage.prompt_tokens or usage.completion_tokens):
            self._units = usage.prompt_tokens + usage.completion_tokens
            metrics.count_tokens(self._job.model, usage)
        if isinstance(message, _SOUND) and message.HasField("summary"):
            self._units = metrics.count_sound(self._job.model, message.summary)
        if isinstance(message, _PICTURES) and message.event.HasField("summary"):
            metrics.count_pictures(self._job.model, message.event.summary)
            self._units = ImagesIntake.units_drawn(message.event.summary)

    def release(self, ending: Ending) -> None:
        """Ends the lease; only the first call does."""
        if not self._released:
            self._released = True
            self._placement.release(self.lease, ending, self._units)
            metrics.ENDINGS.labels(ending.value).inc()


def _fault(error: grpc.aio.AioRpcError, job: Job, lease: Lease) -> RpcFault:
    """What the replica meant, or that it is gone where it could say nothing."""
    fault = from_rpc_error(error)
    if fault.reason == Reason.PEER_NOT_ALLOWED:  # what the gateway may not do is no business of its client's
        logger.error("a replica refuses this gateway", extra={"replica": lease.replica_id, "why": fault.message})
        return faults.replica_lost(grpc.StatusCode.UNAVAILABLE)
    if fault.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return faults.deadline_exceeded()
    if fault.reason != fault.code.name or fault.code not in _LOST_CODES:
        return fault
    extra = {"ticket": job.request_id, "replica": lease.replica_id, "code": fault.code.name, "why": fault.message}
    logger.warning("replica lost", extra=extra)
    return faults.replica_lost(fault.code)


def _metadata(job: Job, lease: Lease) -> Metadata:
    pairs = (("x-request-id", job.request_id), ("x-trenza-lease", lease.lease_id), ("x-trenza-model", lease.model))
    return tuple((key, value) for key, value in pairs if value.isascii() and value.isprintable())


def _now() -> float:
    return asyncio.get_running_loop().time()
