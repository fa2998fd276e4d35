"""A scheduler and chat replicas that do as they are told, and a real gateway in front of them, on ephemeral ports."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

import grpc
import httpx
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_gateway.gateway import Gateway
from trenza_gateway.settings import Settings
from trenza_runtime.errors import RpcFault
from trenza_runtime.rpc.server import RpcServer, RpcService

MODEL = "starter-chat"

Script = Callable[[chat_pb2.ChatRequest, Any], AsyncIterator[chat_pb2.ChatResponse]]
CompleteScript = Callable[[chat_pb2.CompleteRequest, Any], AsyncIterator[chat_pb2.CompleteResponse]]


async def eventually(condition: Callable[[], Any], limit_s: float = 5.0) -> None:
    """Waits until a condition, which may be asynchronous, holds; fails at the limit."""
    async with asyncio.timeout(limit_s):
        while True:
            found = condition()
            if await found if isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


def text(content: str, choice: int = 0) -> chat_pb2.ChatResponse:
    """A message with one piece of text."""
    return chat_pb2.ChatResponse(
        deltas=[chat_pb2.ChatDelta(choice=choice, content=content, token_count=1)], fingerprint="fp_fake"
    )


def end(choices: int = 1, completion_tokens: int = 3) -> chat_pb2.ChatResponse:
    """The last message."""
    return chat_pb2.ChatResponse(
        deltas=[
            chat_pb2.ChatDelta(choice=choice, finish_reason=chat_pb2.FINISH_REASON_STOP) for choice in range(choices)
        ],
        usage=common_pb2.TokenUsage(prompt_tokens=10, cached_tokens=4, completion_tokens=completion_tokens),
    )


async def parrot(request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
    """Repeats the last message word by word in every choice."""
    choices = max(1, request.options.choices)
    said = request.messages[-1].content[0].text
    for index, word in enumerate(said.split(" ")):
        for choice in range(choices):
            yield text(word if index == 0 else f" {word}", choice)
    yield end(choices)


def failing(fault: RpcFault, after: int = 0) -> Script:
    """Fails with a fault after so many messages."""

    async def script(_request: chat_pb2.ChatRequest, _context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        for number in range(after):
            yield text(f"word{number} ")
        raise fault

    return script


def in_turn(*scripts: Script) -> Script:
    """The first call follows the first script, and so on; the last one is kept."""
    left = list(scripts)

    async def script(request: chat_pb2.ChatRequest, context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        async for message in chosen(request, context):
            yield message

    return script


async def go_on(request: chat_pb2.CompleteRequest, _context: Any) -> AsyncIterator[chat_pb2.CompleteResponse]:
    """Continues every text with " and on"."""
    choices = max(1, request.options.choices)
    for choice in range(choices):
        words = ([request.text] if request.echo else []) + [" and", " on"]
        for word in words:
            logprobs = []
            if request.options.HasField("top_logprobs"):
                top = [chat_pb2.TopLogprob(token=word, token_bytes=word.encode(), logprob=-0.25)]
                logprobs = [chat_pb2.TokenLogprob(token=word, token_bytes=word.encode(), logprob=-0.25, top=top)]
            delta = chat_pb2.CompleteDelta(choice=choice, text=word, token_count=1, logprobs=logprobs)
            yield chat_pb2.CompleteResponse(deltas=[delta], fingerprint="fp_fake")
    reason = chat_pb2.FINISH_REASON_LENGTH
    yield chat_pb2.CompleteResponse(
        deltas=[chat_pb2.CompleteDelta(choice=choice, finish_reason=reason) for choice in range(choices)],
        usage=common_pb2.TokenUsage(prompt_tokens=2, completion_tokens=2 * choices),
    )


class FakeReplica(chat_pb2_grpc.ChatServiceServicer):
    """A chat replica that follows a script."""

    def __init__(self, replica_id: str, script: Script = parrot) -> None:
        self.replica_id = replica_id
        self.script = script
        self.complete_script: CompleteScript = go_on
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.deadlines_s: list[float] = []
        self.cancelled = 0
        self.running = 0
        self.address = ""
        self._server: RpcServer | None = None
        self._port = 0

    async def start(self) -> None:
        service = RpcService(
            "trenza.chat.v1.ChatService",
            lambda server: chat_pb2_grpc.add_ChatServiceServicer_to_server(self, server),
        )
        self._server = RpcServer("127.0.0.1", self._port, [service])
        self._port = await self._server.start()
        self.address = f"127.0.0.1:{self._port}"

    async def die(self) -> None:
        """Stops at once; running calls break."""
        if self._server is not None:
            inner = self._server._server
            assert inner is not None
            await inner.stop(0)
            self._server = None

    async def Chat(self, request: chat_pb2.ChatRequest, context: Any) -> AsyncIterator[chat_pb2.ChatResponse]:
        self._note(request, context)
        with self._counted():
            async for message in self.script(request, context):
                yield message

    async def Complete(
        self, request: chat_pb2.CompleteRequest, context: Any
    ) -> AsyncIterator[chat_pb2.CompleteResponse]:
        self._note(request, context)
        with self._counted():
            async for message in self.complete_script(request, context):
                yield message

    async def CountTokens(self, request: chat_pb2.CountTokensRequest, context: Any) -> chat_pb2.CountTokensResponse:
        self._note(request, context)
        return chat_pb2.CountTokensResponse(prompt_tokens=len(request.messages), context_length=512)

    async def Embed(self, request: chat_pb2.EmbedRequest, context: Any) -> chat_pb2.EmbedResponse:
        self._note(request, context)
        return chat_pb2.EmbedResponse(embeddings=[chat_pb2.Embedding(values=[1.0])])

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):  # the latter while a message is being written
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def _note(self, request: Any, context: Any) -> None:
        kept = type(request)()
        kept.CopyFrom(request)
        self.requests.append(kept)
        self.metadata.append(dict(context.invocation_metadata()))
        self.deadlines_s.append(context.time_remaining())

    def view(self, slots: int = 4) -> scheduler_pb2.ReplicaView:
        """The replica as a snapshot shows it."""
        model = common_pb2.Model(
            name=MODEL,
            modality=common_pb2.MODALITY_CHAT,
            capabilities=[common_pb2.CAPABILITY_CHAT, common_pb2.CAPABILITY_COMPLETION],
            description="Small talk.",
            created_unix_s=1_700_000_000,
            owned_by="trenza",
            context_length=512,
            load_state=common_pb2.LOAD_STATE_LOADED,
            slots=slots,
        )
        state = scheduler_pb2.ReplicaState(
            replica_id=self.replica_id,
            generation=1,
            modality=common_pb2.MODALITY_CHAT,
            address=self.address,
            models=[scheduler_pb2.ModelState(model=model)],
            queue_limit=8,
        )
        return scheduler_pb2.ReplicaView(state=state, health=scheduler_pb2.REPLICA_HEALTH_LIVE)


Policy = Callable[[scheduler_pb2.Ticket], scheduler_pb2.AdmitResponse | None]


class FakeScheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    """A scheduler that grants the least used replica at once, unless `policy` says otherwise (None: let it wait)."""

    def __init__(self, replicas: list[FakeReplica]) -> None:
        self.replicas = replicas
        self.policy: Policy | None = None
        self.settled = True
        self.hellos: list[scheduler_pb2.GatewayHello] = []
        self.tickets: list[scheduler_pb2.Ticket] = []
        self.cancellations: list[str] = []
        self.releases: list[scheduler_pb2.LeaseRelease] = []
        self.leases: dict[str, str] = {}
        self.port = 0
        self._outgoing: asyncio.Queue[scheduler_pb2.AdmitResponse] | None = None
        self._server: grpc.aio.Server | None = None
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def die(self) -> None:
        """Stops at once, as a killed process would."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
            self._outgoing = None

    def send(self, response: scheduler_pb2.AdmitResponse) -> None:
        assert self._outgoing is not None
        self._outgoing.put_nowait(response)

    def snapshot(self) -> scheduler_pb2.AdmitResponse:
        views = [replica.view() for replica in self.replicas]
        return scheduler_pb2.AdmitResponse(
            snapshot=scheduler_pb2.Snapshot(version=1, epoch="fake", replicas=views, settled=self.settled)
        )

    def grant(self, ticket: scheduler_pb2.Ticket) -> scheduler_pb2.AdmitResponse | None:
        """A grant on the replica with the fewest leases, not an excluded one while there is another."""
        wanted = [r for r in self.replicas if r.replica_id not in ticket.excluded_replica_ids] or self.replicas
        if not wanted:
            return None
        chosen = min(wanted, key=lambda replica: list(self.leases.values()).count(replica.replica_id))
        lease_id = f"lease-{next(self._numbers)}"
        self.leases[lease_id] = chosen.replica_id
        return scheduler_pb2.AdmitResponse(
            grant=scheduler_pb2.Grant(
                request_id=ticket.request_id,
                lease_id=lease_id,
                replica_id=chosen.replica_id,
                address=chosen.address,
                model_loaded=True,
            )
        )

    async def Admit(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], context: Any
    ) -> AsyncIterator[scheduler_pb2.AdmitResponse]:
        outgoing = self._outgoing = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(requests, outgoing))
        try:
            while True:
                yield await outgoing.get()
        finally:
            reading.cancel()

    def Heartbeat(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetSnapshot(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Explain(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def _read(
        self, requests: AsyncIterator[scheduler_pb2.AdmitRequest], outgoing: asyncio.Queue[scheduler_pb2.AdmitResponse]
    ) -> None:
        async for request in requests:
            kind = request.WhichOneof("message")
            if kind == "hello":
                self.hellos.append(request.hello)
                outgoing.put_nowait(self.snapshot())
            elif kind == "ticket":
                self.tickets.append(request.ticket)
                answer = (self.policy or self.grant)(request.ticket)
                if answer is not None:
                    outgoing.put_nowait(answer)
            elif kind == "cancellation":
                self.cancellations.append(request.cancellation.request_id)
            elif kind == "release":
                self.releases.append(request.release)
                self.leases.pop(request.release.lease_id, None)


def waiting(ticket: scheduler_pb2.Ticket) -> scheduler_pb2.AdmitResponse:
    """A policy: every ticket queues, and learns so."""
    return scheduler_pb2.AdmitResponse(queue_update=scheduler_pb2.QueueUpdate(request_id=ticket.request_id, position=1))


def refusing(reason: int, retry_after_ms: int = 0) -> Policy:
    """A policy: every ticket is refused."""
    return lambda ticket: scheduler_pb2.AdmitResponse(
        refusal=scheduler_pb2.Refusal(
            request_id=ticket.request_id,
            reason=reason,  # type: ignore[arg-type]
            message="Not now.",
            retry_after_ms=retry_after_ms,
        )
    )


@dataclass
class FakeFleet:
    """A gateway with a fake scheduler and fake replicas behind it."""

    scheduler: FakeScheduler
    replicas: list[FakeReplica]
    gateway: Gateway
    client: httpx.AsyncClient = field(repr=False)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.gateway.grpc_port}"

    async def chat(self, content: str = "hello there", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json=chat_body(content, **fields))

    async def ready(self) -> None:
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        return (await self.client.get("/readyz")).status_code == 200

    def outcomes(self) -> list[str]:
        return [scheduler_pb2.Outcome.Name(release.outcome) for release in self.scheduler.releases]


def chat_body(content: str = "hello there", **fields: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


@asynccontextmanager
async def fake_fleet(replicas: int = 1, ready: bool = True, **settings: Any) -> AsyncIterator[FakeFleet]:
    """A running fleet."""
    chats = [FakeReplica(f"chat-{number}") for number in range(replicas)]
    for chat in chats:
        await chat.start()
    scheduler = FakeScheduler(list(chats))
    await scheduler.start()
    gateway = Gateway(
        Settings(
            **{
                "http_port": 0,
                "grpc_port": 0,
                "scheduler_address": f"127.0.0.1:{scheduler.port}",
                "drain_s": 1,
                **settings,
            }
        )
    )
    await gateway.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http_port}", timeout=15) as client:
        fleet = FakeFleet(scheduler, chats, gateway, client)
        try:
            if ready:
                await fleet.ready()
            yield fleet
        finally:
            await client.aclose()
            await gateway.drain()
            await scheduler.die()
            for chat in chats:
                await chat.die()
