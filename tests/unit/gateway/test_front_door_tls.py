"""The gateway's HTTPS: what it shows, when its files change, and to clients that never finish a handshake."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from mesh_certificates import Authority, SecretMount
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from trenza_gateway.connections import ConnectionLimits
from trenza_gateway.http_server import HttpLimits, HttpServer
from trenza_runtime.rpc import certificates
from trenza_runtime.rpc.certificates import CertificateFiles, CertificatePaths


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(scope["scheme"])(scope, receive, send)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def mount(tmp_path: Path, authority: Authority) -> SecretMount:
    return SecretMount(tmp_path / "secret", authority.issue("localhost"))


@asynccontextmanager
async def serving(mount: SecretMount) -> AsyncIterator[int]:
    files = CertificateFiles(CertificatePaths(mount.certificate, mount.key), "front_door")
    server = HttpServer(app, "127.0.0.1", 0, HttpLimits(75, ConnectionLimits(10, 0.5, 5)), files)
    yield await server.start()
    await server.drain(1)


def client(port: int, authority: Authority) -> httpx.AsyncClient:
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    return httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=trusting, trust_env=False)


async def test_https_and_a_renewal_by_swapped_links(
    mount: SecretMount, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "CHECK_EVERY_S", 0.0)
    another = Authority("another")
    async with serving(mount) as port, client(port, authority) as early, client(port, another) as late:
        assert (await early.get("/")).text == "https"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await late.get("/")
        mount.put(another.issue("localhost"))
        assert (await late.get("/")).text == "https"
        assert (await early.get("/")).text == "https", "a connection that exists goes on"
        async with client(port, authority) as new:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await new.get("/")
        mount.put_files({"tls.crt": b"broken", "tls.key": b""})
        async with client(port, another) as unharmed:
            assert (await unharmed.get("/")).text == "https"


async def test_who_sends_nothing_or_no_tls_is_cut_off_and_harms_nobody(
    mount: SecretMount, authority: Authority
) -> None:
    async with serving(mount) as port, client(port, authority) as honest:
        silent, _ = await asyncio.open_connection("127.0.0.1", port)
        plain, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        for reader in (silent, plain):
            async with asyncio.timeout(10):
                with_nothing = await reader.read()
            assert b"200" not in with_nothing
        assert (await honest.get("/")).text == "https"
