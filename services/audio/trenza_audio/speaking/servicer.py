"""Speaking over gRPC: decides who says what, and passes on the sound that the engine makes."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from trenza.audio.v1 import audio_pb2 as pb
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault
from trenza_runtime.models.host import ModelHost, model_not_found
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.rpc.deadline import time_limit
from trenza_runtime.worker.engine import ModelLoadError

from trenza_audio import metrics
from trenza_audio.speaking import engine, translate
from trenza_audio.speaking.casts import cast_of
from trenza_audio.speaking.core.voices import Cast
from trenza_audio.speaking.detection import LanguageDetector

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class Speaking:
    """Answers `Speak` and `ListVoices` of `trenza.audio.v1.AudioService`.

    `request_limit_s` bounds the time of a call whose deadline is later or missing.
    """

    def __init__(self, host: ModelHost, request_limit_s: float) -> None:
        self._host = host
        self._request_limit_s = request_limit_s
        self._numbers = itertools.count()
        self._detector = LanguageDetector()
        self._casts: dict[str, tuple[ModelManifest, Cast]] = {}
        """By model; at most one for each that there is."""

    async def Speak(self, request: pb.SpeakRequest, context: Context) -> AsyncGenerator[pb.SpeakResponse, None]:
        """Speaks a text."""
        asked = request.context
        async with time_limit(context, self._request_limit_s) as limit_s:
            manifest = self._manifest(asked.model)
            cast = await self._cast(manifest)
            plan = await asyncio.to_thread(translate.plan, request, manifest, cast, self._detector.detect)
            name = f"{asked.request_id}#{next(self._numbers)}"
            async with (
                self._host.use(asked.model, limit_s) as model,
                model.gate.place(asked.priority) as queued_s,
                model.worker.open({name: plan.request}) as events,
            ):
                yield plan.started()
                async for batch in events:
                    for _, event in batch:
                        for response in plan.responses(event, queued_s):
                            yield response
                        if isinstance(event, engine.Finished):
                            metrics.count_spoken(model.name, event.duration_s)

    async def ListVoices(self, request: pb.ListVoicesRequest, context: Context) -> pb.ListVoicesResponse:
        """Lists the voices of one model or of all; none of them is loaded for that."""
        async with time_limit(context, self._request_limit_s):
            if name := request.context.model:
                voices = {name: (await self._cast(self._manifest(name))).voices()}
            else:
                voices = {name: cast.voices() for name, cast in (await self._all_casts()).items()}
            return translate.voice_list(voices, request.language)

    def _manifest(self, name: str) -> ModelManifest:
        """A model that speaks. Raises RpcFault when there is none of that name."""
        if not name:
            raise translate.invalid("model", "The request names no model.")
        for manifest in self._host.manifests():
            if manifest.name == name:
                if common_pb2.CAPABILITY_SPEECH not in manifest.capabilities:
                    raise translate.invalid("model", f"The model {name} does not speak.", Reason.UNSUPPORTED)
                return manifest
        raise model_not_found(name, self._host.names())

    async def _all_casts(self) -> dict[str, Cast]:
        """The voices of all models that speak, but for those whose voices cannot be read."""
        found = {}
        for manifest in self._host.manifests():
            if common_pb2.CAPABILITY_SPEECH in manifest.capabilities:
                try:
                    found[manifest.name] = await self._cast(manifest)
                except RpcFault as fault:
                    log.warning("voices left out", extra={"model": manifest.name, "error": fault.message})
        return found

    async def _cast(self, manifest: ModelManifest) -> Cast:
        """A model's voices, read anew when its manifest has changed."""
        known = self._casts.get(manifest.name)
        if known and known[0] == manifest:
            return known[1]
        try:
            cast = await asyncio.to_thread(cast_of, manifest)
        except ModelLoadError as error:
            message = f"The model {manifest.name} cannot speak: {error}"
            details = {"model": manifest.name, "cause": error.reason}
            raise RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.MODEL_LOAD_FAILED, message, details) from error
        there = {*self._host.names(), manifest.name}
        self._casts = {name: entry for name, entry in self._casts.items() if name in there}
        self._casts[manifest.name] = manifest, cast
        return cast
