"""What the fakes of every modality share: a scheduler and replicas that do as they are told, with a real gateway in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Generic, TypeVar

import grpc
import httpx
from scheduler_fakes import FakeScheduler
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_gateway.gateway import Gateway
from trenza_gateway.settings import Settings
from trenza_runtime.rpc.server import RpcServer, RpcService


async def eventually(condition: Callable[[], Any], limit_s: float = 5.0) -> None:
    """Waits until a condition, which may be asynchronous, holds; fails at the limit."""
    async with asyncio.timeout(limit_s):
        while True:
            found = condition()
            if await found if isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


class FakeServer:
    """A replica's server, and what happened to its calls. Servicers of a modality derive from it."""

    SERVICE = ""
    MODALITY: common_pb2.Modality.ValueType = common_pb2.MODALITY_UNSPECIFIED

    def __init__(self, replica_id: str) -> None:
        self.replica_id = replica_id
        self.metadata: list[dict[str, Any]] = []
        self.cancelled = 0
        self.running = 0
        self.address = ""
        self._server: RpcServer | None = None
        self._port = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the servicer."""
        raise NotImplementedError

    @property
    def models(self) -> list[common_pb2.Model]:
        """What it serves."""
        raise NotImplementedError

    async def start(self) -> None:
        self._server = RpcServer("127.0.0.1", self._port, [RpcService(self.SERVICE, self.add_to)])
        self._port = await self._server.start()
        self.address = f"127.0.0.1:{self._port}"

    async def die(self) -> None:
        """Stops at once; running calls break."""
        if self._server is not None:
            inner = self._server._server
            assert inner is not None
            await inner.stop(0)
            self._server = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts a call while it runs, and whether it is cancelled."""
        self.running += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):  # the latter while a message is being written
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def view(self) -> scheduler_pb2.ReplicaView:
        """The replica as a snapshot shows it."""
        state = scheduler_pb2.ReplicaState(
            replica_id=self.replica_id,
            generation=1,
            modality=self.MODALITY,
            address=self.address,
            models=[scheduler_pb2.ModelState(model=model) for model in self.models],
            queue_limit=8,
        )
        return scheduler_pb2.ReplicaView(state=state, health=scheduler_pb2.REPLICA_HEALTH_LIVE)


ReplicaT = TypeVar("ReplicaT", bound=FakeServer)


@dataclass
class Fleet(Generic[ReplicaT]):
    """A gateway with a fake scheduler and fake replicas behind it."""

    scheduler: FakeScheduler
    replicas: list[ReplicaT]
    gateway: Gateway
    client: httpx.AsyncClient = field(repr=False)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.gateway.grpc_port}"

    def outcomes(self) -> list[str]:
        return [scheduler_pb2.Outcome.Name(release.outcome) for release in self.scheduler.releases]

    async def ready(self) -> None:
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self.client.get("/readyz")).status_code == 200


FleetT = TypeVar("FleetT", bound=Fleet[Any])


@asynccontextmanager
async def running_fleet(
    kind: Callable[..., FleetT],
    replicas: Sequence[FakeServer],
    ready: bool = True,
    **settings: Any,
) -> AsyncIterator[FleetT]:
    """A running fleet of these replicas."""
    for replica in replicas:
        await replica.start()
    scheduler = FakeScheduler(replicas)
    await scheduler.start()
    address = f"127.0.0.1:{scheduler.port}"
    gateway = Gateway(
        Settings(**{"http_port": 0, "grpc_port": 0, "scheduler_address": address, "drain_s": 1, **settings})
    )
    await gateway.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http_port}", timeout=30) as client:
        fleet = kind(scheduler, list(replicas), gateway, client)
        try:
            if ready:
                await fleet.ready()
            yield fleet
        finally:
            await client.aclose()
            await gateway.drain()
            await scheduler.die()
            for replica in replicas:
                await replica.die()
