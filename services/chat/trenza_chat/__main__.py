"""The chat service: `python -m trenza_chat`."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version

from trenza.chat.v1 import chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime import lifecycle
from trenza_runtime.devices import Devices
from trenza_runtime.heartbeat import HeartbeatClient
from trenza_runtime.models.host import HostLimits, ModelHost
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.telemetry import logs
from trenza_runtime.telemetry.metrics import serve_metrics

from trenza_chat.models import spec_for, to_preload
from trenza_chat.servicer import ChatServicer
from trenza_chat.settings import ChatSettings

SERVICE = "trenza.chat.v1.ChatService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Starts the parts in order, serves until told to stop, drains."""
    settings = lifecycle.read_settings(ChatSettings)
    metrics = serve_metrics(settings.host, settings.metrics_port)
    devices = Devices()
    registry = ModelRegistry(settings.models_root, common_pb2.MODALITY_CHAT)
    limits = HostLimits(settings.max_loaded_models, settings.queue_limit, usual_slots=settings.slots)
    host = ModelHost(
        registry, lambda manifest: spec_for(manifest, settings), limits, lambda: heartbeat.beat_now(), devices.read
    )
    servicer = ChatServicer(host, settings.request_limit_s)
    service = RpcService(SERVICE, lambda server: chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server))
    server = RpcServer(settings.host, settings.grpc_port, [service])
    port = await server.start()
    identity = scheduler_pb2.ReplicaState(
        replica_id=settings.replica_id,
        generation=time.time_ns(),
        modality=common_pb2.MODALITY_CHAT,
        address=settings.advertise_address or f"{settings.host}:{port}",
        version=version("trenza-chat"),
        pool=settings.pool,
    )
    heartbeat = HeartbeatClient(
        settings.scheduler_address, lambda: describe(identity, host, devices, stopping.requested), host.obey
    )
    host.preload(to_preload(host.names(), settings.preload))
    tasks = [asyncio.create_task(host.run()), asyncio.create_task(heartbeat.run())]
    lifecycle.announce_ready(grpc_port=port, **({"metrics_port": metrics.port} if metrics else {}))

    await stopping.wait()
    heartbeat.beat_now()  # the scheduler is to know before the first call is refused
    await server.drain(settings.drain_s)
    await heartbeat.leave()
    for task in tasks:
        task.cancel()
    await host.stop(grace_s=5)
    if metrics:
        metrics.close()


def describe(
    identity: scheduler_pb2.ReplicaState, host: ModelHost, devices: Devices, draining: bool
) -> scheduler_pb2.ReplicaState:
    """The replica as its next heartbeat tells it."""
    state = scheduler_pb2.ReplicaState()
    state.CopyFrom(identity)
    state.draining = draining
    state.models.extend(host.states())
    state.devices.extend(device.to_proto() for device in devices.read())
    for loaded in host.loaded():
        state.running_requests += loaded.gate.slots_used
        state.queued_requests += loaded.gate.waiting
        state.queue_limit += loaded.gate.queue_limit
    return state


if __name__ == "__main__":
    logs.configure("chat")
    lifecycle.run(main)
