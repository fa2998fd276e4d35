"""Hearing over gRPC: takes an upload in, hands it to the engine, and passes on what the engine hears."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from trenza.audio.v1 import audio_pb2 as pb
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.models.host import LoadedModel, ModelHost
from trenza_runtime.rpc.deadline import time_limit

from trenza_audio import metrics
from trenza_audio.hearing import engine, translate
from trenza_audio.hearing.spool import check_size, spooled
from trenza_audio.hearing.translate import Answer, ResponseT

Context = grpc.aio.ServicerContext[Any, Any]
Upload = AsyncIterator[pb.TranscribeRequest | pb.TranslateRequest]

_COURTESY_S = 1.0
_COURTESY_MESSAGES = 64

_CAPABILITIES: dict[engine.Task, common_pb2.Capability.ValueType] = {
    "transcribe": common_pb2.CAPABILITY_TRANSCRIPTION,
    "translate": common_pb2.CAPABILITY_TRANSLATION,
}


@dataclass(frozen=True)
class HearingLimits:
    """`request_s` bounds the time of a call whose deadline is later or missing; `spool_folder` None is the system's."""

    request_s: float
    upload_bytes: int
    spool_folder: Path | None = None


class Hearing:
    """Answers `Transcribe` and `Translate` of `trenza.audio.v1.AudioService`."""

    def __init__(self, host: ModelHost, limits: HearingLimits) -> None:
        self._host = host
        self._limits = limits
        self._numbers = itertools.count()

    def Transcribe(
        self, requests: AsyncIterator[pb.TranscribeRequest], context: Context
    ) -> AsyncGenerator[pb.TranscribeResponse, None]:
        """Writes down what is said."""
        return self._hear(requests, context, "transcribe", pb.TranscribeResponse)

    def Translate(
        self, requests: AsyncIterator[pb.TranslateRequest], context: Context
    ) -> AsyncGenerator[pb.TranslateResponse, None]:
        """Writes down in English what is said."""
        return self._hear(requests, context, "translate", pb.TranslateResponse)

    async def _hear(
        self, requests: Upload, context: Context, task: engine.Task, response: type[ResponseT]
    ) -> AsyncGenerator[ResponseT, None]:
        async with _heard_out(requests), time_limit(context, self._limits.request_s) as limit_s:
            config = await self._configuration(requests, task)
            asked = config.context
            async with (
                self._host.use(asked.model, limit_s) as model,
                spooled(_chunks(requests), self._limits.upload_bytes, self._limits.spool_folder) as path,
            ):
                _require_capability(model, task)
                answer = Answer(response)
                name = f"{asked.request_id}#{next(self._numbers)}"
                request = translate.hear_request(config, task, str(path))
                async with model.gate.place(asked.priority) as queued_s, model.worker.open({name: request}) as events:
                    async for batch in events:
                        for _, event in batch:
                            yield answer.message(event, queued_s)
                if answer.finished:
                    metrics.count_heard(model.name, answer.finished.duration_s)

    async def _configuration(self, requests: Upload, task: engine.Task) -> pb.TranscriptionConfig:
        """The first message, once it is clear that it can be honoured: nobody uploads for nothing."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "config":
            raise translate.invalid("config", "The first message of an upload must be its configuration.")
        config = first.config
        if not config.context.model:
            raise translate.invalid("model", "The request names no model.")
        check_size(config.media.size_bytes, self._limits.upload_bytes)
        translate.hear_request(config, task, path="")
        return config


@asynccontextmanager
async def _heard_out(requests: Upload) -> AsyncIterator[None]:
    """Lets the caller finish its upload before it is refused: many clients take an end in mid-sentence for a broken line.

    What is left is thrown away, for a short while and as far as `_COURTESY_MESSAGES`.
    """
    try:
        yield
    except RpcFault as fault:
        if fault.code != grpc.StatusCode.DEADLINE_EXCEEDED:
            with suppress(TimeoutError):
                async with asyncio.timeout(_COURTESY_S):
                    for _ in range(_COURTESY_MESSAGES):
                        if await anext(aiter(requests), None) is None:
                            break
        raise


async def _chunks(requests: Upload) -> AsyncIterator[bytes]:
    async for message in requests:
        if message.WhichOneof("message") != "chunk":
            raise translate.invalid(
                "file", "Behind the configuration there must be pieces of the file and nothing else."
            )
        yield message.chunk


def _require_capability(model: LoadedModel, task: engine.Task) -> None:
    if _CAPABILITIES[task] not in model.manifest.capabilities:
        raise translate.invalid("model", f"The model {model.name} does not {task} speech.", Reason.UNSUPPORTED)
