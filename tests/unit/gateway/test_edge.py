"""What every HTTP request goes through: keys, counting, probes, connections."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet_fakes import eventually
from gateway_fakes import MODEL, FakeFleet, chat_body, end, fake_fleet, text
from trenza_gateway.auth.access import Access, is_loopback
from trenza_gateway.auth.keys import KeyFile, KeyFileError, find_owner, parse_keys
from trenza_gateway.gateway import Gateway
from trenza_gateway.settings import Settings
from trenza_runtime.lifecycle import StartError

KEY = "trz-secret"


def key_line(name: str, key: str) -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}\n"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# people\n\n" + key_line("ann", KEY) + key_line("bob", "other"))
    return path


class TestKeys:
    def test_the_owner_of_a_key(self) -> None:
        keys = parse_keys(key_line("ann", KEY) + key_line("bob", "other"))
        assert find_owner(keys, KEY) == "ann"
        assert find_owner(keys, "other") == "bob"
        assert find_owner(keys, "") is None
        assert find_owner(keys, KEY + "x") is None

    @pytest.mark.parametrize(
        "text", ["ann", "ann:123", f"an n:{'0' * 64}", f"ann:{'G' * 64}", key_line("ann", "a") + key_line("ann", "b")]
    )
    def test_wrong_files(self, text: str) -> None:
        with pytest.raises(KeyFileError, match="line"):
            parse_keys(text)

    def test_a_change_is_seen_and_a_broken_file_changes_nothing(self, key_file: Path) -> None:
        now = 0.0
        keys = KeyFile(key_file, clock=lambda: now)
        assert keys.owner("new") is None
        key_file.write_text(key_line("cleo", "new"))
        now = 2.0
        assert (keys.owner("new"), keys.owner(KEY)) == ("cleo", None)
        key_file.write_text("rubbish")
        now = 4.0
        assert keys.owner("new") == "cleo"
        key_file.unlink()
        now = 6.0
        assert keys.owner("new") == "cleo"

    def test_a_mounted_secret_that_is_swapped_is_seen(self, tmp_path: Path) -> None:
        """Kubernetes swaps a link above the file; the file's own size and time may be the same."""
        now = 0.0
        for version, name in (("..1", "ann"), ("..2", "bob")):
            (tmp_path / version).mkdir()
            (tmp_path / version / "keys").write_text(key_line(name, KEY))
            os.utime(tmp_path / version / "keys", (1, 1))
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "keys").symlink_to("..data/keys")
        keys = KeyFile(tmp_path / "keys", clock=lambda: now)
        assert keys.owner(KEY) == "ann"
        (tmp_path / "..draft").symlink_to("..2")
        (tmp_path / "..draft").replace(tmp_path / "..data")
        now = 2.0
        assert keys.owner(KEY) == "bob"

    def test_authorization(self, key_file: Path) -> None:
        access = Access(KeyFile(key_file))
        assert access.tenant(f"Bearer {KEY}") == "ann"
        assert access.tenant(f"bearer  {KEY} ") == "ann"
        for wrong in (None, "", KEY, f"Basic {KEY}", "Bearer", "Bearer nope", "Bearer \udcff"):
            assert access.tenant(wrong) is None
        assert Access(None).tenant(None) == "anonymous"

    async def test_over_http(self, key_file: Path) -> None:
        async with fake_fleet(api_keys_file=key_file) as fleet:
            for headers in ({}, {"authorization": "Bearer nope"}):
                response = await fleet.client.post("/v1/chat/completions", json=chat_body(), headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.json()["error"]["code"] == "invalid_api_key"
                assert response.headers["x-request-id"]
            assert (await fleet.client.get("/v1/models")).status_code == 401
            for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
                assert (await fleet.client.get(path)).status_code == 200
            good = {"authorization": f"Bearer {KEY}"}
            response = await fleet.client.post("/v1/chat/completions", json=chat_body(), headers=good)
            assert response.status_code == 200
            assert fleet.scheduler.tickets[0].tenant == "ann"
            assert fleet.replicas[0].requests[0].context.tenant == "ann"


class TestStarting:
    @pytest.mark.parametrize(
        ("host", "loopback"),
        [
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("localhost", True),
            ("::1", True),
            ("[::1]", True),
            ("0.0.0.0", False),
            ("::", False),
            ("10.0.0.1", False),
            ("example.org", False),
            ("", False),
        ],
    )
    def test_what_loopback_is(self, host: str, loopback: bool) -> None:
        assert is_loopback(host) is loopback

    def test_no_keys_off_loopback(self, key_file: Path) -> None:
        with pytest.raises(StartError, match="API keys"):
            Gateway(Settings(host="0.0.0.0"))
        Gateway(Settings(host="0.0.0.0", api_keys_file=key_file))

    def test_a_file_of_keys_that_cannot_be_used(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="missing"):
            Gateway(Settings(api_keys_file=tmp_path / "missing"))

    async def test_a_taken_port(self, fleet: FakeFleet) -> None:
        with pytest.raises(StartError, match=str(fleet.gateway.http_port)):
            await Gateway(Settings(http_port=fleet.gateway.http_port, grpc_port=0)).start()
        with pytest.raises(StartError, match=str(fleet.gateway.grpc_port)):
            await Gateway(Settings(http_port=0, grpc_port=fleet.gateway.grpc_port)).start()


class TestProbes:
    async def test_before_the_scheduler_is_reached(self) -> None:
        async with fake_fleet(ready=False, scheduler_address="127.0.0.1:1") as fleet:
            assert (await fleet.client.get("/healthz")).status_code == 200
            response = await fleet.client.get("/readyz")
            assert response.status_code == 503
            assert "picture" in response.json()["missing"][0]
            refused = await fleet.chat()
            assert refused.status_code == 503
            assert "retry-after" in refused.headers

    async def test_without_a_replica(self) -> None:
        async with fake_fleet(replicas=0, ready=False) as fleet:
            await eventually(lambda: fleet.scheduler.hellos)
            await asyncio.sleep(0.05)
            response = await fleet.client.get("/readyz")
            assert response.status_code == 503
            assert response.json()["missing"] == ["no live replica"]
            assert response.json()["scheduler"] == "up"

    async def test_ready(self, fleet: FakeFleet) -> None:
        response = await fleet.client.get("/readyz")
        assert response.json() == {
            "status": "ready",
            "missing": [],
            "scheduler": "up",
            "live_replicas": 1,
            "models": [MODEL],
        }
        assert (await fleet.client.head("/healthz")).status_code == 200

    async def test_metrics(self, fleet: FakeFleet) -> None:
        await fleet.chat()
        await fleet.client.get("/v1/models/anything-a-client-says")
        await fleet.client.get("/some/path/that/there/is/not")
        text = (await fleet.client.get("/metrics")).text
        assert 'trenza_gateway_requests_total{route="/v1/chat/completions",status="200"}' in text
        assert f'trenza_gateway_tokens_total{{kind="prompt",model="{MODEL}"}}' in text
        assert f'trenza_gateway_first_token_seconds_count{{model="{MODEL}"}}' in text
        assert "trenza_gateway_leases 0.0" in text
        assert "anything-a-client-says" not in text
        assert "some/path" not in text

    async def test_the_examples_in_the_documentation_work(self, fleet: FakeFleet) -> None:
        document = (await fleet.client.get("/openapi.json")).json()
        tried = 0
        for path in ("/v1/chat/completions", "/v1/completions"):
            content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            assert content["schema"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]
            for example in content["examples"].values():
                if example["value"]["model"] != MODEL:
                    continue
                assert (await fleet.client.post(path, json=example["value"])).status_code == 200
                tried += 1
        assert tried >= 4


@asynccontextmanager
async def connection(fleet: FakeFleet) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.gateway.http_port)
    try:
        yield reader, writer
    finally:
        writer.close()


class TestConnections:
    async def test_slow_heads_and_bodies_are_given_up(self) -> None:
        async with fake_fleet(head_read_s=0.5, body_read_s=0.5) as fleet:
            async with connection(fleet) as (reader, writer):
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost")
                assert await asyncio.wait_for(reader.read(), 5) == b""
            async with connection(fleet) as (reader, _):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            async with connection(fleet) as (reader, writer):
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
                assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408")

    async def test_idle_connections_are_kept(self) -> None:
        async with fake_fleet(head_read_s=0.3) as fleet:
            await fleet.client.get("/healthz")
            async with connection(fleet) as (reader, writer):
                for _ in range(2):
                    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                    await reader.readuntil(b"}")
                    await asyncio.sleep(1.6)

    async def test_endless_heads_are_cut_off(self, fleet: FakeFleet) -> None:
        async with connection(fleet) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n")

            async def go_on() -> None:
                for number in range(10_000):
                    writer.write(b"x-header-%d: %s\r\n" % (number, b"y" * 1000))
                    await writer.drain()

            with pytest.raises(ConnectionError):
                await go_on()
            del reader

    async def test_a_thousand_slow_connections_do_not_stop_others(self) -> None:
        async with fake_fleet(connection_limit=1500) as fleet:
            slow = [await asyncio.open_connection("127.0.0.1", fleet.gateway.http_port) for _ in range(1000)]
            for _, writer in slow:
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            began = time.perf_counter()
            for _ in range(5):
                assert (await fleet.chat()).status_code == 200
            assert time.perf_counter() - began < 5
            for _, writer in slow:
                writer.close()

    async def test_more_connections_than_there_may_be(self) -> None:
        async with fake_fleet(connection_limit=3) as fleet:
            opened = [await asyncio.open_connection("127.0.0.1", fleet.gateway.http_port) for _ in range(5)]
            last_reader, _ = opened[-1]
            answer = await asyncio.wait_for(last_reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"overloaded" in answer
            for _, writer in opened:
                writer.close()
            await asyncio.sleep(0.1)
            assert (await fleet.chat()).status_code == 200

    async def test_more_requests_than_there_may_be(self) -> None:
        async with fake_fleet(request_limit=1) as fleet:
            fleet.scheduler.policy = lambda _ticket: None
            waiting = asyncio.ensure_future(fleet.chat())
            await eventually(lambda: fleet.scheduler.tickets)
            refused = await fleet.chat()
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            assert (await fleet.client.get("/healthz")).status_code == 200
            waiting.cancel()
            await asyncio.wait({waiting})

    async def test_what_is_no_http(self, fleet: FakeFleet) -> None:
        for garbage in (b"\x16\x03\x01 this is no HTTP\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000):
            async with connection(fleet) as (reader, writer):
                writer.write(garbage)
                assert b"invalid_request_error" in await asyncio.wait_for(reader.read(), 5), garbage
        assert (await fleet.chat()).status_code == 200

    async def test_draining(self) -> None:
        async with fake_fleet(drain_s=5, notice_s=0.3) as fleet:
            release = asyncio.Event()

            async def patient(request: Any, context: Any) -> Any:
                yield text("a")
                await release.wait()
                yield end()

            usual, fleet.replicas[0].script = fleet.replicas[0].script, patient
            running = asyncio.ensure_future(fleet.chat(stream=True))
            await eventually(lambda: fleet.replicas[0].running == 1)
            fleet.replicas[0].script = usual
            draining = asyncio.ensure_future(fleet.gateway.drain())
            await asyncio.sleep(0.05)
            assert (await fleet.client.get("/readyz")).json()["missing"] == ["the gateway is shutting down"]
            late = await fleet.chat()  # load balancers have not noticed yet
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            await asyncio.sleep(0.5)
            with pytest.raises(httpx.ConnectError):
                await fleet.chat()
            release.set()
            assert (await running).text.endswith("data: [DONE]\n\n")
            await draining

    @pytest.mark.parametrize("stream", [False, True])
    async def test_what_outlasts_the_drain_is_told_so(self, stream: bool) -> None:
        async with fake_fleet(drain_s=0.1) as fleet:

            async def endless(request: Any, context: Any) -> Any:
                while True:
                    yield text("a")
                    await asyncio.sleep(0.01)

            fleet.replicas[0].script = endless
            running = asyncio.ensure_future(fleet.chat(stream=stream))
            await eventually(lambda: fleet.replicas[0].running == 1)
            await fleet.gateway.drain()
            response = await running
            assert response.status_code == (200 if stream else 503)
            assert "shutting_down" in response.text
            assert "[DONE]" not in response.text
            await eventually(lambda: fleet.replicas[0].cancelled == 1)


async def test_the_documentation_loads_nothing_from_elsewhere(fleet: FakeFleet) -> None:
    page = await fleet.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text
    document = (await fleet.client.get("/openapi.json")).json()
    assert {"/v1/models", "/v1/chat/completions", "/readyz"} <= set(document["paths"])
