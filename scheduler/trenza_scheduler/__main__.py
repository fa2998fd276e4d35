"""The scheduler: `python -m trenza_scheduler`."""

from __future__ import annotations

import asyncio
import uuid
from random import Random

from trenza.scheduler.v1 import scheduler_pb2_grpc
from trenza_runtime import lifecycle
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.telemetry import logs
from trenza_runtime.telemetry.metrics import serve_metrics

from trenza_scheduler.core.domain import ShutDown
from trenza_scheduler.owner import Owner
from trenza_scheduler.servicer import SchedulerServicer
from trenza_scheduler.settings import SchedulerSettings

SERVICE = "trenza.scheduler.v1.SchedulerService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Starts the parts in order, serves until told to stop. Nothing has to be saved: a new scheduler learns from the others."""
    settings = lifecycle.read_settings(SchedulerSettings)
    metrics = serve_metrics(settings.host, settings.metrics_port)
    owner = Owner(settings.limits(), epoch=uuid.uuid4().hex[:12], rng=Random())
    goodbye = asyncio.Event()
    servicer = SchedulerServicer(owner, goodbye)
    service = RpcService(SERVICE, lambda s: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(servicer, s))
    server = RpcServer(settings.host, settings.grpc_port, [service])
    port = await server.start()
    running = asyncio.create_task(owner.run())
    lifecycle.announce_ready(grpc_port=port, **({"metrics_port": metrics.port} if metrics else {}))

    await stopping.wait()
    owner.apply(ShutDown())
    goodbye.set()
    await server.drain(settings.drain_s)
    running.cancel()
    if metrics:
        metrics.close()


if __name__ == "__main__":
    logs.configure("scheduler")
    lifecycle.run(main)
