"""The vision service: `python -m trenza_vision`."""

from __future__ import annotations

from importlib.metadata import version

from trenza.common.v1 import common_pb2
from trenza.vision.v1 import vision_pb2_grpc
from trenza_runtime import lifecycle, model_service
from trenza_runtime.models.host import ModelHost
from trenza_runtime.rpc.server import RpcService
from trenza_runtime.telemetry import logs

from trenza_vision.models import spec_for
from trenza_vision.opening import PictureOpener
from trenza_vision.servicer import VisionLimits, VisionServicer
from trenza_vision.settings import VisionSettings
from trenza_vision.uploads import UploadLimits

SERVICE = "trenza.vision.v1.VisionService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Serves models that see until told to stop."""
    settings = lifecycle.read_settings(VisionSettings)

    opener = PictureOpener(settings.decoders, settings.max_source_pixels)
    uploads = UploadLimits(settings.max_pictures, settings.max_upload_bytes, settings.upload_limit_s)
    limits = VisionLimits(
        settings.request_limit_s,
        uploads,
        settings.max_picture_side,
        max(settings.max_held_bytes, settings.max_upload_bytes),
    )

    def services_of(host: ModelHost) -> list[RpcService]:
        servicer = VisionServicer(host, opener, limits)
        return [
            RpcService(SERVICE, lambda server: vision_pb2_grpc.add_VisionServiceServicer_to_server(servicer, server))
        ]

    await model_service.serve(
        stopping,
        settings,
        common_pb2.MODALITY_VISION,
        version("trenza-vision"),
        lambda manifest: spec_for(manifest, settings),
        services_of,
    )
    opener.close()


if __name__ == "__main__":
    logs.configure("vision")
    lifecycle.run(main)
