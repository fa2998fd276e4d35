"""A real scheduler on an ephemeral port, and gateways and replicas that say to it what a test wants said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import grpc
from prometheus_client import CollectorRegistry
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.server import RpcServer
from trenza_scheduler.__main__ import services
from trenza_scheduler.core.domain import ModelKey
from trenza_scheduler.core.limits import limits_for
from trenza_scheduler.metrics import SchedulerMetrics
from trenza_scheduler.owner import Owner

INTERVAL_S = 0.2
LIMIT_S = 5.0


async def eventually(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Waits until a condition holds and returns its value; fails at the limit."""
    async with asyncio.timeout(limit_s):
        while not (value := condition()):  # noqa: ASYNC110  conditions look at what no event tells of
            await asyncio.sleep(0.005)
        return value


@dataclass
class Running:
    """A scheduler, and what it can be asked without a stream."""

    owner: Owner
    server: RpcServer
    port: int
    registry: CollectorRegistry
    stub: scheduler_pb2_grpc.SchedulerServiceAsyncStub

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"trenza_scheduler_{name}", labels)

    async def snapshot(self) -> scheduler_pb2.Snapshot:
        return (await self.stub.GetSnapshot(scheduler_pb2.GetSnapshotRequest())).snapshot

    async def view(self, replica_id: str) -> scheduler_pb2.ReplicaView | None:
        return next((v for v in (await self.snapshot()).replicas if v.state.replica_id == replica_id), None)

    async def until_view(self, replica_id: str, accept: Callable[[scheduler_pb2.ReplicaView | None], Any]) -> None:
        """Waits until the replica looks as wanted; None stands for one that is not there."""
        async with asyncio.timeout(LIMIT_S):
            while not accept(await self.view(replica_id)):  # noqa: ASYNC110  another process's state, in principle
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    port: int = 0,
    *,
    epoch: str = "epoch",
    queue: int = 100,
    write_stall_s: float = 5.0,
    outbox_limit: int = 10_000,
    expected: Mapping[ModelKey, int] | None = None,
    **limits: float,
) -> AsyncIterator[Running]:
    """Serves a scheduler, and ends whatever streams a test has left."""
    registry = CollectorRegistry()
    bounds = replace(limits_for(INTERVAL_S, queue, 60.0), **limits)  # type: ignore[arg-type]  # times only
    owner = Owner(bounds, epoch, Random(1), SchedulerMetrics(registry), outbox_limit, expected)
    server = RpcServer("127.0.0.1", port, services(owner, write_stall_s))
    bound = await server.start()
    try:
        async with open_channel(f"127.0.0.1:{bound}") as channel:
            yield Running(owner, server, bound, registry, scheduler_pb2_grpc.SchedulerServiceStub(channel))
    finally:
        owner.shut_down()
        await server.drain(1.0)


class Stream:
    """One end of a bidirectional stream: sends what it is told, and collects what comes."""

    def __init__(self, address: str, method: str, deaf: bool = False) -> None:
        self._channel = open_channel(address)
        self._call = getattr(scheduler_pb2_grpc.SchedulerServiceStub(self._channel), method)()
        self.heard: list[Any] = []
        self.ended: grpc.aio.AioRpcError | None = None
        self._reading = asyncio.create_task(asyncio.sleep(0) if deaf else self._read())

    async def send(self, message: Any) -> None:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # the stream is over: `ended` says why
            await self._call.write(message)

    async def finish(self) -> None:
        """Says that nothing more will come, and waits for the other side's end."""
        await self._call.done_writing()
        await asyncio.wait_for(self._reading, LIMIT_S)

    async def end(self) -> grpc.aio.AioRpcError:
        """Waits until the other side ends the stream with an error."""
        await asyncio.wait_for(asyncio.shield(self._reading), LIMIT_S)
        assert self.ended is not None, "it ended well"
        return self.ended

    async def break_off(self) -> None:
        """As a process that dies: the connection is gone."""
        self._call.cancel()
        await self._channel.close()
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def _read(self) -> None:
        try:
            async for message in self._call:
                self.heard.append(message)
        except grpc.aio.AioRpcError as error:
            self.ended = error


class Gateway(Stream):
    """An Admit stream."""

    def __init__(self, running: Running, deaf: bool = False) -> None:
        super().__init__(running.address, "Admit", deaf)

    @classmethod
    async def connect(cls, running: Running, name: str = "g1", held: Sequence[scheduler_pb2.HeldLease] = ()) -> Gateway:
        """Says hello and waits for the first snapshot."""
        gateway = cls(running)
        await gateway.send(_request(hello=scheduler_pb2.GatewayHello(gateway_id=name, held_leases=held)))
        await eventually(lambda: gateway.heard)
        assert gateway.heard[0].WhichOneof("message") == "snapshot"
        return gateway

    async def ask(self, request_id: str, model: str = "alpha", **fields: Any) -> None:
        fields = {"modality": common_pb2.MODALITY_CHAT, **fields}
        await self.send(_request(ticket=scheduler_pb2.Ticket(request_id=request_id, model=model, **fields)))

    async def withdraw(self, request_id: str) -> None:
        await self.send(_request(cancellation=scheduler_pb2.TicketCancellation(request_id=request_id)))

    async def release(self, lease_id: str, outcome: Any = scheduler_pb2.OUTCOME_COMPLETED) -> None:
        await self.send(_request(release=scheduler_pb2.LeaseRelease(lease_id=lease_id, outcome=outcome)))

    async def grant(self, request_id: str) -> scheduler_pb2.Grant:
        """Waits for the grant; fails on a refusal."""
        answer = await eventually(lambda: self.answer(request_id))
        assert answer.WhichOneof("message") == "grant", answer
        return answer.grant  # type: ignore[no-any-return]

    async def refusal(self, request_id: str) -> scheduler_pb2.Refusal:
        """Waits for the refusal; fails on a grant."""
        answer = await eventually(lambda: self.answer(request_id))
        assert answer.WhichOneof("message") == "refusal", answer
        return answer.refusal  # type: ignore[no-any-return]

    def answer(self, request_id: str) -> Any:
        """The last grant or refusal of a request, None while there is none."""
        answers = [m for m in self.heard if request_id in (m.grant.request_id, m.refusal.request_id)]
        return answers[-1] if answers else None

    def positions(self, request_id: str) -> list[int]:
        """The positions that a request was told, in order."""
        return [m.queue_update.position for m in self.heard if m.queue_update.request_id == request_id]

    def snapshots(self) -> list[scheduler_pb2.Snapshot]:
        """What was pushed, in order."""
        return [message.snapshot for message in self.heard if message.WhichOneof("message") == "snapshot"]


class Replica(Stream):
    """A Heartbeat stream that beats only when told to."""

    def __init__(self, running: Running, replica_id: str = "chat-0", generation: int = 1, slots: int = 2) -> None:
        super().__init__(running.address, "Heartbeat")
        self.state = state(replica_id, generation, slots)
        self.sequence = 0
        self._beating: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, running: Running, replica_id: str = "chat-0", generation: int = 1, slots: int = 2) -> Replica:
        """Beats and waits for the acknowledgement; goes on beating."""
        replica = cls(running, replica_id, generation, slots)
        await replica.beat()
        await eventually(lambda: replica.heard)
        replica._beating = asyncio.create_task(replica._beat_on())
        return replica

    async def beat(self, leaving: bool = False) -> None:
        self.sequence += 1
        await self.send(scheduler_pb2.HeartbeatRequest(state=self.state, sequence=self.sequence, leaving=leaving))

    async def fall_silent(self) -> None:
        """Beats no more; the stream stands."""
        if self._beating:
            self._beating.cancel()
            await asyncio.wait({self._beating})

    async def break_off(self) -> None:
        await self.fall_silent()
        await super().break_off()

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.beat()


def state(
    replica_id: str, generation: int = 1, slots: int = 2, models: Sequence[str] = ("alpha",)
) -> scheduler_pb2.ReplicaState:
    """A chat replica with its models loaded."""
    chat, loaded = common_pb2.MODALITY_CHAT, common_pb2.LOAD_STATE_LOADED
    return scheduler_pb2.ReplicaState(
        replica_id=replica_id,
        generation=generation,
        modality=chat,
        address=f"{replica_id}:50051",
        models=[
            scheduler_pb2.ModelState(model=common_pb2.Model(name=name, modality=chat, load_state=loaded, slots=slots))
            for name in models
        ],
    )


def _request(**message: Any) -> scheduler_pb2.AdmitRequest:
    return scheduler_pb2.AdmitRequest(**message)
