"""The chat service: `python -m trenza_chat`."""

from __future__ import annotations

from importlib.metadata import version

from trenza.chat.v1 import chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_runtime import lifecycle, model_service
from trenza_runtime.models.host import ModelHost
from trenza_runtime.rpc.server import RpcService
from trenza_runtime.telemetry import logs

from trenza_chat.models import spec_for
from trenza_chat.servicer import ChatServicer
from trenza_chat.settings import ChatSettings

SERVICE = "trenza.chat.v1.ChatService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Serves chat models until told to stop."""
    settings = lifecycle.read_settings(ChatSettings)

    def services_of(host: ModelHost) -> list[RpcService]:
        servicer = ChatServicer(host, settings.request_limit_s)
        return [RpcService(SERVICE, lambda server: chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server))]

    await model_service.serve(
        stopping,
        settings,
        common_pb2.MODALITY_CHAT,
        version("trenza-chat"),
        lambda manifest: spec_for(manifest, settings),
        services_of,
    )


if __name__ == "__main__":
    logs.configure("chat")
    lifecycle.run(main)
