"""Servers and channels of the mesh: who gets in, who may call what, and what a renewal does to both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh_certificates import Authority, SecretMount
from trenza_runtime.errors import Reason, from_rpc_error
from trenza_runtime.lifecycle import StartError
from trenza_runtime.rpc import tls
from trenza_runtime.rpc.certificates import CertificateFiles, CertificatePaths
from trenza_runtime.rpc.peers import Roles, identity
from trenza_runtime.rpc.server import RpcServer, RpcService
from trenza_runtime.rpc.tls import Transport, read_transport, start_transport

SERVICE = "test.Echo"
ROLES: Roles = {f"/{SERVICE}/": ("gateway",), f"/{SERVICE}/Count": ("chat", "gateway")}


class Clock:
    """Every look is a look at the files."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 2
        return self.now_s


def transport_of(mount: SecretMount, role: str = "") -> Transport:
    paths = CertificatePaths(mount.certificate, mount.key, mount.authorities)
    return Transport(CertificateFiles(paths, "test", identity(role) if role else "", Clock()))


def mounted(folder: Path, authority: Authority, *roles: str, trusts: bytes = b"", expired: bool = False) -> SecretMount:
    return SecretMount(folder, authority.roles(*roles, expired=expired), trusts or authority.pem)


class Echo:
    """A server with a call that answers at once and one that streams until it is told to end."""

    def __init__(self, transport: Transport) -> None:
        self.enough = asyncio.Event()
        handlers: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(self._say),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        service = RpcService(SERVICE, lambda server: server.add_generic_rpc_handlers((generic,)))
        credentials = transport.server_credentials()
        self.server = RpcServer("127.0.0.1", 0, [service], credentials=credentials, roles=ROLES)
        self.address = ""

    async def start(self) -> None:
        self.address = f"127.0.0.1:{await self.server.start()}"

    async def _say(self, request: bytes, _context: Any) -> bytes:
        return request

    async def _count(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        number = 0
        while not self.enough.is_set():
            yield str(number := number + 1).encode()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def echoing(transport: Transport) -> AsyncIterator[Echo]:
    echo = Echo(transport)
    await echo.start()
    try:
        yield echo
    finally:
        echo.enough.set()
        await echo.server.drain(1)


async def said(channel: Any) -> bytes | grpc.StatusCode:
    try:
        return bytes(await channel.unary_unary(f"/{SERVICE}/Say")(b"hello", timeout=5))
    except grpc.aio.AioRpcError as error:
        return error.code()


async def says(transport: Transport, address: str, role: str = "chat") -> bytes | grpc.StatusCode:
    """What a new connection brings."""
    async with transport.open_channel(address, role) as channel:
        return await said(channel)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server_mount(tmp_path: Path, authority: Authority) -> SecretMount:
    return mounted(tmp_path / "server", authority, "chat")


@pytest.fixture
def gateway_mount(tmp_path: Path, authority: Authority) -> SecretMount:
    return mounted(tmp_path / "gateway", authority, "gateway")


async def test_who_gets_in(
    tmp_path: Path, authority: Authority, server_mount: SecretMount, gateway_mount: SecretMount
) -> None:
    stranger = Authority("a stranger")
    foreign = mounted(tmp_path / "foreign", stranger, "gateway", trusts=authority.pem + stranger.pem)
    plain = grpc.ssl_channel_credentials(authority.pem)
    async with echoing(transport_of(server_mount)) as echo:
        assert await says(transport_of(gateway_mount), echo.address) == b"hello"
        assert await says(transport_of(foreign), echo.address) is grpc.StatusCode.UNAVAILABLE
        assert await says(Transport(), echo.address) is grpc.StatusCode.UNAVAILABLE
        async with tls.open_channel(echo.address, plain, identity("chat")) as without_certificate:
            assert await said(without_certificate) is grpc.StatusCode.UNAVAILABLE
        assert await says(transport_of(gateway_mount), echo.address, "images") is grpc.StatusCode.UNAVAILABLE


async def test_an_expired_certificate_does_not_get_in(authority: Authority, server_mount: SecretMount) -> None:
    leaf = authority.roles("gateway", expired=True)
    credentials = grpc.ssl_channel_credentials(authority.pem, leaf.key, leaf.certificate)
    async with (
        echoing(transport_of(server_mount)) as echo,
        tls.open_channel(echo.address, credentials, identity("chat")) as channel,
    ):
        assert await said(channel) is grpc.StatusCode.UNAVAILABLE


async def test_who_may_call_what(tmp_path: Path, authority: Authority, server_mount: SecretMount) -> None:
    chat, nobody = mounted(tmp_path / "c", authority, "chat"), mounted(tmp_path / "n", authority, "somebody")
    async with echoing(transport_of(server_mount)) as echo:
        for mount, may_count in ((chat, True), (nobody, False)):
            channel: Any
            async with transport_of(mount).open_channel(echo.address, "chat") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary(f"/{SERVICE}/Say")(b"", timeout=5)
                fault = from_rpc_error(refused.value)
                assert (fault.code, fault.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.PEER_NOT_ALLOWED)
                count = channel.unary_stream(f"/{SERVICE}/Count")(b"", timeout=5)
                if may_count:
                    assert await count.read() == b"1"
                    count.cancel()
                else:
                    with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
                        await count.read()
                health = health_pb2_grpc.HealthStub(channel)
                answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_method_that_no_role_is_written_down_for_is_for_nobody(
    server_mount: SecretMount, gateway_mount: SecretMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROLES", {"/another.Service/": ("gateway",)})
    async with echoing(transport_of(server_mount)) as echo:
        assert await says(transport_of(gateway_mount), echo.address) is grpc.StatusCode.PERMISSION_DENIED


async def test_renewal_leaves_running_calls_alone_and_binds_new_connections(
    authority: Authority, server_mount: SecretMount, gateway_mount: SecretMount
) -> None:
    successor = Authority("the successor")
    both = authority.pem + successor.pem
    gateway = transport_of(gateway_mount)
    async with echoing(transport_of(server_mount)) as echo, gateway.open_channel(echo.address, "chat") as old:
        running: Any = old.unary_stream(f"/{SERVICE}/Count")(b"")  # type: ignore[arg-type]  # of no proto
        assert await running.read() == b"1"
        # As it is done: first all trust both authorities, then certificates change, then the old authority goes.
        server_mount.put(authority.roles("chat"), both)
        gateway_mount.put(authority.roles("gateway"), both)
        assert await says(gateway, echo.address) == b"hello"
        server_mount.put(successor.roles("chat"), both)
        assert await says(gateway, echo.address) == b"hello"
        gateway_mount.put(successor.roles("gateway"), both)
        assert await says(gateway, echo.address) == b"hello"
        old_gateway = Path(gateway_mount.folder.parent / "late")
        late = transport_of(mounted(old_gateway, authority, "gateway", trusts=both))
        assert await says(late, echo.address) == b"hello"
        server_mount.put(successor.roles("chat"), successor.pem)
        gateway_mount.put(successor.roles("gateway"), successor.pem)
        assert await says(gateway, echo.address) == b"hello"
        assert await says(late, echo.address) is grpc.StatusCode.UNAVAILABLE
        before = int(await running.read())
        assert int(await running.read()) == before + 1
        assert await said(old) == b"hello"


async def test_a_renewal_that_is_broken_keeps_a_server_serving(
    authority: Authority, server_mount: SecretMount, gateway_mount: SecretMount
) -> None:
    async with echoing(transport_of(server_mount)) as echo:
        server_mount.put_files({"tls.crt": b"half of a", "tls.key": b"", "ca.crt": b""})
        assert await says(transport_of(gateway_mount), echo.address) == b"hello"
        server_mount.put(authority.roles("chat"), authority.pem)
        assert await says(transport_of(gateway_mount), echo.address) == b"hello"


async def test_generations(authority: Authority, gateway_mount: SecretMount) -> None:
    transport = transport_of(gateway_mount)
    assert transport.generation == 1
    waiting = asyncio.create_task(transport.renewal(1))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    gateway_mount.put(authority.roles("gateway"), authority.pem)
    await asyncio.wait_for(waiting, 5)
    assert transport.generation == 2
    assert Transport().generation == 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Transport().renewal(0), 0.01)


def test_the_environment_names_all_three_files_or_none(
    authority: Authority, server_mount: SecretMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not read_transport("chat").secured
    for name, value in server_mount.environment.items():
        monkeypatch.setenv(name, value)
    assert read_transport("chat").secured
    with pytest.raises(StartError, match="has to be for images"):
        read_transport("images")
    server_mount.put(authority.roles("chat", expired=True), authority.pem)
    with pytest.raises(StartError, match="expired"):
        read_transport("chat")
    monkeypatch.setenv("TRENZA_TLS_KEY_FILE", "")
    with pytest.raises(StartError, match="all three or not at all"):
        read_transport("chat")


@pytest.mark.parametrize(
    ("host", "level"), [("127.0.0.1", "INFO"), ("localhost", "INFO"), ("::1", "INFO"), ("0.0.0.0", "WARNING")]
)
def test_a_process_says_that_it_is_open(host: str, level: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        start_transport("chat", host)
    assert [(record.levelname, "mTLS is OFF" in record.message) for record in caplog.records] == [(level, True)]
