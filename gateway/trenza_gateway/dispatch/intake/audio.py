"""The jobs of the audio API: how much sound to hear, how much text to speak."""

from __future__ import annotations

from trenza.audio.v1 import audio_pb2
from trenza.common.v1 import common_pb2

from trenza_gateway.dispatch.intake.intake import Effort, Intake
from trenza_gateway.dispatch.job import Job

SIZE_UNIT_BYTES = 4096
"""Encoded sound per unit of a job's size: about a second of what people upload."""


class AudioIntake:
    """Makes jobs of audio requests. Each method raises RpcFault for one that cannot be served whoever were to serve it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def transcription(self, config: audio_pb2.TranscriptionConfig, time_limit_s: float | None = None) -> Job:
        """The job of writing down what is said. `time_limit_s` is the caller's own limit for the whole request."""
        return self._hearing(config, common_pb2.CAPABILITY_TRANSCRIPTION, time_limit_s)

    def translation(self, config: audio_pb2.TranscriptionConfig, time_limit_s: float | None = None) -> Job:
        """The job of writing down in English what is said."""
        return self._hearing(config, common_pb2.CAPABILITY_TRANSLATION, time_limit_s)

    def speech(self, request: audio_pb2.SpeakRequest, time_limit_s: float | None = None) -> Job:
        """The job of speaking a text."""
        effort = Effort(size_estimate=len(request.input))
        return self._job(request.context, common_pb2.CAPABILITY_SPEECH, effort, time_limit_s)

    def voices(self, request: audio_pb2.ListVoicesRequest, time_limit_s: float | None = None) -> Job:
        """The job of listing one model's voices."""
        return self._job(request.context, common_pb2.CAPABILITY_SPEECH, Effort(), time_limit_s)

    def speaking_models(self) -> list[str]:
        """The models of the fleet that speak, by name; those that are scaled to zero stay so and are left out."""
        speaking = self._intake.offering(common_pb2.MODALITY_AUDIO, common_pb2.CAPABILITY_SPEECH)
        return [name for name in speaking if self._intake.announces(name)]

    def _hearing(
        self,
        config: audio_pb2.TranscriptionConfig,
        capability: common_pb2.Capability.ValueType,
        time_limit_s: float | None,
    ) -> Job:
        effort = Effort(size_estimate=config.media.size_bytes // SIZE_UNIT_BYTES)
        return self._job(config.context, capability, effort, time_limit_s)

    def _job(
        self,
        context: common_pb2.RequestContext,
        capability: common_pb2.Capability.ValueType,
        effort: Effort,
        time_limit_s: float | None,
    ) -> Job:
        self._intake.require(context.model, common_pb2.MODALITY_AUDIO, capability)
        return self._intake.job(context, common_pb2.MODALITY_AUDIO, effort, time_limit_s)
