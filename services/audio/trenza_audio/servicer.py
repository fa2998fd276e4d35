"""The audio API: one gRPC service, of which hearing and speaking each answer half."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from trenza.audio.v1 import audio_pb2 as pb
from trenza.audio.v1 import audio_pb2_grpc

from trenza_audio.hearing.servicer import Hearing
from trenza_audio.speaking.servicer import Speaking

Context = grpc.aio.ServicerContext[Any, Any]


class AudioServicer(audio_pb2_grpc.AudioServiceServicer):
    """Serves `trenza.audio.v1.AudioService`. What the halves give are generators, closed as soon as a call ends."""

    def __init__(self, hearing: Hearing, speaking: Speaking) -> None:
        self._hearing = hearing
        self._speaking = speaking

    async def Transcribe(
        self, requests: AsyncIterator[pb.TranscribeRequest], context: Context
    ) -> AsyncIterator[pb.TranscribeResponse]:
        async with aclosing(self._hearing.Transcribe(requests, context)) as responses:
            async for response in responses:
                yield response

    async def Translate(
        self, requests: AsyncIterator[pb.TranslateRequest], context: Context
    ) -> AsyncIterator[pb.TranslateResponse]:
        async with aclosing(self._hearing.Translate(requests, context)) as responses:
            async for response in responses:
                yield response

    async def Speak(self, request: pb.SpeakRequest, context: Context) -> AsyncIterator[pb.SpeakResponse]:
        async with aclosing(self._speaking.Speak(request, context)) as responses:
            async for response in responses:
                yield response

    async def ListVoices(self, request: pb.ListVoicesRequest, context: Context) -> pb.ListVoicesResponse:
        return await self._speaking.ListVoices(request, context)
