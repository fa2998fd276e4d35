"""The scheduler: `python -m trenza_scheduler`."""

from __future__ import annotations

import uuid
from random import Random

from trenza.scheduler.v1 import scheduler_pb2_grpc
from trenza_runtime import lifecycle
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.telemetry import logs
from trenza_runtime.telemetry.metrics import serve_metrics

from trenza_scheduler.metrics import SchedulerMetrics
from trenza_scheduler.owner import Owner
from trenza_scheduler.servicer import SchedulerServicer
from trenza_scheduler.settings import SchedulerSettings

SERVICE = "trenza.scheduler.v1.SchedulerService"


async def main(stopping: lifecycle.Stopping) -> None:
    """Starts the parts in order, serves until told to stop. Nothing has to be saved: a new scheduler learns from the others."""
    settings = lifecycle.read_settings(SchedulerSettings)
    owner = Owner(settings.limits(), uuid.uuid4().hex[:12], Random(), SchedulerMetrics(), settings.outbox_limit)
    servicer = SchedulerServicer(owner, settings.write_stall_s)
    service = RpcService(
        SERVICE, lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(servicer, server)
    )
    server = RpcServer(settings.host, settings.grpc_port, [service])
    metrics = serve_metrics(settings.host, settings.metrics_port)
    port = await server.start()
    lifecycle.announce_ready(grpc_port=port, **({"metrics_port": metrics.port} if metrics else {}))

    await stopping.wait()
    owner.shut_down()
    await server.drain(settings.drain_s)
    if metrics:
        metrics.close()


if __name__ == "__main__":
    logs.configure("scheduler")
    lifecycle.run(main)
