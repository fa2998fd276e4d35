"""The voices of the fleet: each speaking model is asked for its own, those of one model all together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing

import grpc
from trenza.audio.v1 import audio_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch.calls import list_voices_call
from trenza_gateway.dispatch.dispatcher import Dispatcher
from trenza_gateway.dispatch.intake.audio import AudioIntake

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""Models that are asked at the same time."""
LIMIT_S = 30.0
"""How long a model may take to answer."""


class Voices:
    """Lists voices."""

    def __init__(self, intake: AudioIntake, dispatcher: Dispatcher) -> None:
        self._intake = intake
        self._dispatcher = dispatcher

    async def list(
        self, request: audio_pb2.ListVoicesRequest, time_limit_s: float | None = None
    ) -> list[audio_pb2.Voice]:
        """The voices that the request asks for, by model and name.

        Where it names no model, one that cannot answer is left out. Raises RpcFault where none answers.
        """
        limit_s = min(LIMIT_S, time_limit_s or LIMIT_S)
        if request.context.model:
            return _sorted(await self._of(request, limit_s))
        models = self._intake.speaking_models()
        places = asyncio.Semaphore(AT_ONCE)
        asked = [self._or_fault(_about(request, model, number), limit_s, places) for number, model in enumerate(models)]
        answers = await asyncio.gather(*asked)
        faults = [answer for answer in answers if isinstance(answer, RpcFault)]
        if faults and len(faults) == len(answers):
            raise faults[0]
        return _sorted([voice for answer in answers if not isinstance(answer, RpcFault) for voice in answer])

    async def _or_fault(
        self, request: audio_pb2.ListVoicesRequest, limit_s: float, places: asyncio.Semaphore
    ) -> Sequence[audio_pb2.Voice] | RpcFault:
        async with places:
            try:
                return await self._of(request, limit_s)
            except RpcFault as fault:
                extra = {"model": request.context.model, "reason": fault.reason, "why": fault.message}
                logger.warning("no list of voices", extra=extra)
                return fault

    async def _of(self, request: audio_pb2.ListVoicesRequest, limit_s: float) -> Sequence[audio_pb2.Voice]:
        job = self._intake.voices(request, limit_s)
        async with aclosing(self._dispatcher.run(job, list_voices_call(request))) as answers:
            found = [answer async for answer in answers]
        if len(found) != 1:
            raise RpcFault(grpc.StatusCode.INTERNAL, Reason.INTERNAL, "The replica sent no answer.")
        return found[0].voices


def _about(request: audio_pb2.ListVoicesRequest, model: str, number: int) -> audio_pb2.ListVoicesRequest:
    """The same request about one of the models, with an id of its own."""
    one = audio_pb2.ListVoicesRequest()
    one.CopyFrom(request)
    one.context.model = model
    one.context.request_id = f"{request.context.request_id}.{number}"
    return one


def _sorted(voices: Sequence[audio_pb2.Voice]) -> list[audio_pb2.Voice]:
    return sorted(voices, key=lambda voice: (voice.model, voice.name))
