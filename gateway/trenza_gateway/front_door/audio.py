"""AudioService for the whole fleet: each call is dispatched to a replica as an HTTP request would be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from trenza.audio.v1 import audio_pb2, audio_pb2_grpc

from trenza_gateway import metrics
from trenza_gateway.dispatch.calls import speak_call, transcribe_call, translate_call
from trenza_gateway.dispatch.dispatcher import Dispatcher, MessageT, StartCall
from trenza_gateway.dispatch.intake.audio import AudioIntake
from trenza_gateway.dispatch.job import Job
from trenza_gateway.dispatch.voices import Voices
from trenza_gateway.front_door.callers import Callers, Context
from trenza_gateway.front_door.uploading import configuration, heard_out, upload


class AudioFrontDoor(audio_pb2_grpc.AudioServiceServicer):
    """The servicer. Faults raised here become rich statuses in the server."""

    def __init__(self, callers: Callers, intake: AudioIntake, dispatcher: Dispatcher) -> None:
        self._callers = callers
        self._intake = intake
        self._dispatcher = dispatcher
        self._voices = Voices(intake, dispatcher)

    async def Transcribe(
        self, requests: AsyncIterator[audio_pb2.TranscribeRequest], context: Context
    ) -> AsyncGenerator[audio_pb2.TranscribeResponse, None]:
        """Writes down what is said."""
        async with heard_out(requests) as incoming:
            self._callers.tenant(context)
            first = await configuration(incoming)
            self._callers.settle(context, first.config.context)
            job = self._intake.transcription(first.config, context.time_remaining())
            async with aclosing(self._run(job, transcribe_call(upload(first, incoming)))) as messages:
                async for message in messages:
                    yield message

    async def Translate(
        self, requests: AsyncIterator[audio_pb2.TranslateRequest], context: Context
    ) -> AsyncGenerator[audio_pb2.TranslateResponse, None]:
        """Writes down in English what is said."""
        async with heard_out(requests) as incoming:
            self._callers.tenant(context)
            first = await configuration(incoming)
            self._callers.settle(context, first.config.context)
            job = self._intake.translation(first.config, context.time_remaining())
            async with aclosing(self._run(job, translate_call(upload(first, incoming)))) as messages:
                async for message in messages:
                    yield message

    async def Speak(
        self, request: audio_pb2.SpeakRequest, context: Context
    ) -> AsyncGenerator[audio_pb2.SpeakResponse, None]:
        """Speaks a text."""
        self._callers.settle(context, request.context)
        job = self._intake.speech(request, context.time_remaining())
        async with aclosing(self._run(job, speak_call(request))) as messages:
            async for message in messages:
                yield message

    async def ListVoices(self, request: audio_pb2.ListVoicesRequest, context: Context) -> audio_pb2.ListVoicesResponse:
        """Lists the voices of one model or of all."""
        self._callers.settle(context, request.context, model_required=False)
        with metrics.IN_FLIGHT.labels("grpc").track_inprogress():
            return audio_pb2.ListVoicesResponse(voices=await self._voices.list(request, context.time_remaining()))

    async def _run(self, job: Job, call: StartCall[MessageT]) -> AsyncGenerator[MessageT, None]:
        with metrics.IN_FLIGHT.labels("grpc").track_inprogress():
            async with aclosing(self._dispatcher.run(job, call)) as messages:
                async for message in messages:
                    yield message
