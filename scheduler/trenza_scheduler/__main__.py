"""The scheduler: `python -m trenza_scheduler`."""

from __future__ import annotations

import uuid
from random import Random

from trenza.common.v1 import common_pb2
from trenza.keda.v1 import externalscaler_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2_grpc
from trenza_runtime import lifecycle
from trenza_runtime.rpc.peers import GATEWAY, KEDA, OPERATOR, SCHEDULER, modality_role
from trenza_runtime.rpc.probes import ProbePort
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.rpc.tls import start_transport
from trenza_runtime.telemetry import logs
from trenza_runtime.telemetry.metrics import serve_metrics

from trenza_scheduler.keda import KedaServicer
from trenza_scheduler.metrics import SchedulerMetrics
from trenza_scheduler.owner import Owner
from trenza_scheduler.servicer import SchedulerServicer
from trenza_scheduler.settings import SchedulerSettings

SERVICE = "trenza.scheduler.v1.SchedulerService"
KEDA_SERVICE = "externalscaler.ExternalScaler"
ROLES = {
    f"/{SERVICE}/": (GATEWAY, OPERATOR),
    f"/{SERVICE}/Heartbeat": tuple(modality_role(modality) for modality in common_pb2.Modality.values() if modality),
    f"/{KEDA_SERVICE}/": (KEDA,),
}
"""Who may call what where certificates say who calls; that a replica beats for its own modality, the servicer sees to."""


async def main(stopping: lifecycle.Stopping) -> None:
    """Starts the parts in order, serves until told to stop. Nothing has to be saved: a new scheduler learns from the others."""
    settings = lifecycle.read_settings(SchedulerSettings)
    transport = start_transport(SCHEDULER, settings.host)
    probes = ProbePort(settings.host, settings.health_port)
    health_port = await probes.start()
    metrics, epoch = SchedulerMetrics(), uuid.uuid4().hex[:12]
    owner = Owner(settings.limits(), epoch, Random(), metrics, settings.outbox_limit, settings.expected())
    server = RpcServer(
        settings.host,
        settings.grpc_port,
        services(owner, settings.write_stall_s),
        credentials=transport.server_credentials(),
        roles=ROLES if transport.secured else None,
    )
    page = serve_metrics(settings.host, settings.metrics_port)
    port = await server.start()
    probes.started()
    lifecycle.announce_ready(grpc_port=port, **({"metrics_port": page.port} if page else {}), **health_port)

    await stopping.wait()
    probes.stopping()
    owner.shut_down()
    await server.drain(settings.drain_s)
    if page:
        page.close()
    await probes.close()


def services(owner: Owner, write_stall_s: float) -> list[RpcService]:
    """What is served: the scheduler to gateways and replicas, its figures to KEDA."""
    scheduler, keda = SchedulerServicer(owner, write_stall_s), KedaServicer(owner.scaling)
    return [
        RpcService(
            SERVICE, lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server)
        ),
        RpcService(
            KEDA_SERVICE, lambda server: externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(keda, server)
        ),
    ]


if __name__ == "__main__":
    logs.configure("scheduler")
    lifecycle.run(main)
