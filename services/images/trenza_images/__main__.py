"""The images service: `python -m trenza_images`."""

from __future__ import annotations

from importlib.metadata import version

from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2_grpc
from trenza_runtime import lifecycle, model_service
from trenza_runtime.models.host import ModelHost
from trenza_runtime.rpc.server import RpcService
from trenza_runtime.telemetry import logs

from trenza_images.models import spec_for
from trenza_images.servicer import ImagesServicer
from trenza_images.settings import ImagesSettings

SERVICE = "trenza.images.v1.ImagesService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Serves models that draw until told to stop."""
    settings = lifecycle.read_settings(ImagesSettings)

    def services_of(host: ModelHost) -> list[RpcService]:
        servicer = ImagesServicer(host, settings.request_limit_s, settings.max_upload_bytes)
        return [
            RpcService(SERVICE, lambda server: images_pb2_grpc.add_ImagesServiceServicer_to_server(servicer, server))
        ]

    await model_service.serve(
        stopping,
        settings,
        common_pb2.MODALITY_IMAGES,
        version("trenza-images"),
        lambda manifest: spec_for(manifest, settings),
        services_of,
    )


if __name__ == "__main__":
    logs.configure("images")
    lifecycle.run(main)
