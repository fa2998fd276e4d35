"""Runs a model service: what is the same for every modality, from the first setting to the end of the drain.

A service adds its settings, how a manifest's model is run (`SpecFor`), and its servicers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings
from trenza.common.v1 import common_pb2, common_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2

from trenza_runtime.devices import Devices
from trenza_runtime.heartbeat import HeartbeatClient
from trenza_runtime.lifecycle import Stopping, announce_ready
from trenza_runtime.models import servicer as models_servicer
from trenza_runtime.models.host import HostLimits, ModelHost, SpecFor
from trenza_runtime.models.manifest import MODALITIES
from trenza_runtime.models.registry import ModelRegistry
from trenza_runtime.rpc.peers import GATEWAY, OPERATOR, modality_role
from trenza_runtime.rpc.probes import ProbePort
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.rpc.tls import Transport, start_transport
from trenza_runtime.telemetry.metrics import serve_metrics

_UNLOAD_S = 5.0


class ModelServiceSettings(BaseSettings):
    """The settings that every model service has; a service derives its own from it and names the prefix."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    grpc_port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 takes any free one.")
    metrics_port: int = Field(0, ge=-1, le=65535, description="Port of /metrics; 0 takes any free one, -1 serves none.")
    health_port: int = Field(
        -1,
        ge=-1,
        le=65535,
        description="Port of grpc.health.v1 in the clear, for probes; 0 takes any free one, -1 serves none.",
    )
    advertise_address: str = Field(
        "", description="host:port at which gateways reach this replica; empty: where it listens."
    )
    replica_id: str = Field(
        "",
        max_length=128,
        description="Name of this replica, unique in the fleet and stable over restarts of one place (a pod's name); "
        "empty: made of host and process.",
    )
    pool: str = Field("", max_length=128, description="Name of the set of like replicas that this one scales with.")
    scheduler_address: str = Field("127.0.0.1:9091", description="host:port of the scheduler.")

    models_root: Path = Field(Path("models/starter"), description="Folder with one folder per model.")
    preload: str = Field(
        "auto",
        description="Models to load at start and keep, separated by commas; `auto` is the only one there is, `none` is none.",
    )
    max_loaded_models: int = Field(3, ge=1, le=64, description="Models in memory at once; idle ones make room.")
    queue_limit: int = Field(
        32, ge=0, le=4096, description="Requests that may wait for a slot of a model on this replica."
    )
    slots: int = Field(
        4, ge=1, le=256, description="Requests that a model runs together, where its manifest does not say."
    )

    stall_s: float = Field(
        120.0,
        gt=0,
        description="Longest that one step of a model may take; after that its worker process counts as stuck and is replaced.",
    )
    request_limit_s: float = Field(600.0, gt=0, description="Longest that a request may run, whatever its deadline.")
    drain_s: float = Field(20.0, ge=0, description="Time that running requests get to finish after SIGTERM.")


async def serve(
    stopping: Stopping,
    settings: ModelServiceSettings,
    modality: common_pb2.Modality.ValueType,
    version: str,
    spec_for: SpecFor,
    services_of: Callable[[ModelHost], Sequence[RpcService]],
) -> None:
    """Starts the parts in order, serves until told to stop, drains.

    Raises StartError when a port is taken or the mesh's certificate cannot be used.
    """
    role = modality_role(modality)
    transport = start_transport(role, settings.host)
    metrics = serve_metrics(settings.host, settings.metrics_port)
    devices = Devices()
    limits = HostLimits(
        settings.max_loaded_models, settings.queue_limit, usual_slots=settings.slots, stall_s=settings.stall_s
    )
    registry = ModelRegistry(settings.models_root, modality)

    def on_change() -> None:
        heartbeat.beat_now()  # made further down, of the host

    host = ModelHost(registry, spec_for, limits, on_change, devices.read)
    preloaded = to_preload(host.names(), settings.preload)
    probes = ProbePort(settings.host, settings.health_port, FirstLoads(host, preloaded).done)
    health_port = await probes.start()
    server = _server(settings, transport, [*services_of(host), _catalogue(host)])
    port = await server.start()
    identity = scheduler_pb2.ReplicaState(
        replica_id=settings.replica_id or _default_name(modality),
        generation=time.time_ns(),
        modality=modality,
        address=settings.advertise_address or f"{settings.host}:{port}",
        version=version,
        pool=settings.pool,
    )

    async def obey(directive: scheduler_pb2.Directive) -> None:
        if directive.WhichOneof("order") == "drain":
            stopping.request()
        else:
            await host.obey(directive)

    heartbeat = HeartbeatClient(
        settings.scheduler_address, lambda: describe(identity, host, devices, stopping.requested), obey, transport
    )
    host.preload(preloaded)
    tasks = [asyncio.create_task(host.run()), asyncio.create_task(heartbeat.run())]
    probes.started()
    announce_ready(grpc_port=port, **({"metrics_port": metrics.port} if metrics else {}), **health_port)

    await stopping.wait()
    probes.stopping()
    heartbeat.beat_now()  # the scheduler is to know before the first call is refused
    await server.drain(settings.drain_s)
    await heartbeat.leave()
    for task in tasks:
        task.cancel()
    await host.stop(_UNLOAD_S)
    if metrics:
        metrics.close()
    await probes.close()


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


def to_preload(names: list[str], wanted: str) -> list[str]:
    """The models to load at start, of those that there are: `wanted` is the setting `preload`."""
    if wanted == "none":
        return []
    if wanted == "auto":
        return names if len(names) == 1 else []
    return [name.strip() for name in wanted.split(",") if name.strip()]


class FirstLoads:
    """Whether the models to load at start have been loaded once; what becomes of them later is for the scheduler to know."""

    def __init__(self, host: ModelHost, names: Sequence[str]) -> None:
        self._host = host
        self._missing = set(names)

    def done(self) -> bool:
        """True from the first time on that every model has been seen in memory."""
        if self._missing:
            self._missing -= {loaded.name for loaded in self._host.loaded()}
        return not self._missing


def _server(settings: ModelServiceSettings, transport: Transport, services: Sequence[RpcService]) -> RpcServer:
    callers = {f"/{service.name}/": (GATEWAY, OPERATOR) for service in services}
    return RpcServer(
        settings.host,
        settings.grpc_port,
        services,
        credentials=transport.server_credentials(),
        roles=callers if transport.secured else None,
    )


def _catalogue(host: ModelHost) -> RpcService:
    servicer = models_servicer.ModelServicer(host)
    return RpcService(
        models_servicer.SERVICE, lambda server: common_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    )


def _default_name(modality: common_pb2.Modality.ValueType) -> str:
    component = next(name for name, value in MODALITIES.items() if value == modality)
    return f"{component}-{socket.gethostname()}-{os.getpid()}"
