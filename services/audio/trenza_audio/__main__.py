"""The audio service: `python -m trenza_audio`."""

from __future__ import annotations

from importlib.metadata import version

from trenza.audio.v1 import audio_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_runtime import lifecycle, model_service
from trenza_runtime.models.host import ModelHost
from trenza_runtime.rpc.server import RpcService
from trenza_runtime.telemetry import logs

from trenza_audio.hearing.servicer import Hearing, HearingLimits
from trenza_audio.models import spec_for
from trenza_audio.servicer import AudioServicer
from trenza_audio.settings import AudioSettings
from trenza_audio.speaking.servicer import Speaking

SERVICE = "trenza.audio.v1.AudioService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Serves audio models until told to stop."""
    settings = lifecycle.read_settings(AudioSettings)

    def services_of(host: ModelHost) -> list[RpcService]:
        limits = HearingLimits(settings.request_limit_s, settings.upload_limit_bytes, settings.spool_folder)
        servicer = AudioServicer(Hearing(host, limits), Speaking(host, settings.request_limit_s))
        return [RpcService(SERVICE, lambda server: audio_pb2_grpc.add_AudioServiceServicer_to_server(servicer, server))]

    await model_service.serve(
        stopping,
        settings,
        common_pb2.MODALITY_AUDIO,
        version("trenza-audio"),
        lambda manifest: spec_for(manifest, settings),
        services_of,
    )


if __name__ == "__main__":
    logs.configure("audio")
    lifecycle.run(main)
