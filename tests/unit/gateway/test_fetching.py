"""Pictures from the net: nothing that this machine alone can reach may be fetched for a stranger."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from images_fakes import error_of
from trenza_gateway.gateway import Gateway
from trenza_gateway.pictures.addresses import is_permitted
from trenza_gateway.pictures.fetching import MAX_REDIRECTS, Fetcher, FetchRules, dial_directly
from trenza_gateway.pictures.locations import location_of, redirected
from trenza_gateway.pictures.picture import BadPicture, TooLarge
from trenza_gateway.settings import Settings
from trenza_runtime.lifecycle import StartError
from vision_fakes import picture, shows, vision_fleet

PUBLIC = "93.184.215.14"
LOOPBACK = "127.0.0.1"
PORTS = frozenset({80, 443})
LIMIT_BYTES = 100_000

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


def ok(content: bytes, *headers: str) -> bytes:
    """A complete answer."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def to(url: str, status: int = 302) -> bytes:
    """A redirect."""
    return f"HTTP/1.1 {status} Over There\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()


class Net:
    """A net of one server, whatever the address; it remembers what was looked up, connected to and asked for."""

    def __init__(self, answers: dict[str, bytes], names: dict[str, Sequence[str]] | None = None) -> None:
        self.answers = answers
        self.names: dict[str, list[Sequence[str]]] = {name: [found] for name, found in (names or {}).items()}
        self.looked_up: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self.port = 0

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        """The next answer for a name; the last one is kept. Public where nothing else is said."""
        self.looked_up.append(host)
        answers = self.names.get(host, [[PUBLIC]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def dial(self, address: str, port: int, _tls: ssl.SSLContext | None, _host: str) -> Any:
        self.dialled.append((address, port))
        return await asyncio.open_connection(LOOPBACK, self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        writer.write(self.answers[head.split(" ")[1]])
        writer.close()


@asynccontextmanager
async def net(
    answers: dict[str, bytes], names: dict[str, Sequence[str]] | None = None, handle: Handle | None = None
) -> AsyncIterator[tuple[Net, Fetcher]]:
    """The net, and a fetcher that knows no other."""
    made = Net(answers, names)
    server = await asyncio.start_server(handle or made.serve, LOOPBACK, 0)
    made.port = server.sockets[0].getsockname()[1]
    fetcher = Fetcher(FetchRules(PORTS), made.resolve, made.dial)
    try:
        yield made, fetcher
    finally:
        fetcher.close()
        server.close()


async def fetch(fetcher: Fetcher, url: str = "http://cats.test/cat.png", limit_s: float = 20) -> bytes:
    found = await fetcher.fetch(url, LIMIT_BYTES, limit_s, lambda _size_bytes: None)
    return b"".join(found.pieces)


async def refused(fetcher: Fetcher, url: str = "http://cats.test/cat.png", limit_s: float = 20) -> str:
    with pytest.raises(BadPicture) as caught:
        await fetch(fetcher, url, limit_s)
    return str(caught.value)


class TestAddresses:
    @pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
    def test_public_ones(self, address: str) -> None:
        assert is_permitted(address)

    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
            *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
            *("255.255.255.255", "192.88.99.1", "168.63.129.16"),
            *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
            *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1"),
            *("64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::", "2001::1", "100::1", "nonsense", ""),
        ],
    )
    def test_all_others(self, address: str) -> None:
        assert not is_permitted(address)

    def test_networks_that_are_permitted(self) -> None:
        networks = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
        assert is_permitted("10.1.2.3", networks)
        assert is_permitted("::ffff:10.1.2.3", networks)
        assert is_permitted("fd00::7", networks)
        assert not is_permitted("10.2.0.1", networks)


class TestLocations:
    def test_what_is_asked_for(self) -> None:
        found = location_of("HTTPS://Cats.Test.:443/a%20b/c.png?size=1#top", PORTS)
        assert (found.secure, found.host, found.port, found.target) == (True, "cats.test", 443, "/a%20b/c.png?size=1")
        assert found.authority == "cats.test"
        assert location_of("http://cats.test", PORTS).target == "/"
        six = location_of("http://[2606:4700::1111]:443/", PORTS)
        assert (six.host, six.authority) == ("2606:4700::1111", "[2606:4700::1111]:443")

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "ftp://cats.test/",
                "file:///etc/passwd",
                "gopher://cats.test/",
                "cats.test",
                "//cats.test/",
                "http:///x",
            ),
            *("http://cats.test:22/", "http://cats.test:99999/", "http://cats.test:x/", "http://cats.test:0/"),
            *("http://me:secret@cats.test/", "http://cats.test@127.0.0.1/", "http://cats.test\\@127.0.0.1/"),
            *("http://cats.test/a b", "http://cats.test/\r\nX: y", "http://cats.test/\x00", "http://cäts.test/"),
            *("http://[::1/", "http://[fe80::1%25eth0]/", "http://ca$ts.test/", f"http://cats.test/{'x' * 5000}"),
        ],
    )
    def test_what_is_not(self, url: str) -> None:
        with pytest.raises(BadPicture):
            location_of(url, PORTS)

    def test_redirects(self) -> None:
        here = location_of("https://cats.test/a/b.png", PORTS)
        assert redirected(here, "../c.png", PORTS).target == "/c.png"
        assert redirected(here, "//dogs.test/", PORTS).host == "dogs.test"
        for said in ("http://cats.test/", "file:///etc/passwd", "https://cats.test:22/", "https://a@b/", "http://["):
            with pytest.raises(BadPicture):
                redirected(here, said, PORTS)


class TestWhereTo:
    async def test_a_picture(self) -> None:
        async with net({"/cat.png?x=1": ok(picture())}) as (made, fetcher):
            assert await fetch(fetcher, "http://cats.test/cat.png?x=1") == picture()
            assert (made.looked_up, made.dialled) == (["cats.test"], [(PUBLIC, 80)])
            lines = made.asked[0].lower().split("\r\n")
            assert "host: cats.test" in lines
            assert not [line for line in lines if line.startswith(("cookie", "authorization"))]

    async def test_a_name_for_inside(self) -> None:
        async with net({}, {"inside.test": ["10.0.0.7"]}) as (made, fetcher):
            assert await refused(fetcher, "http://inside.test/") == "There is no public host 'inside.test'."
            assert not made.dialled

    async def test_one_address_of_several_is_inside(self) -> None:
        async with net({}, {"both.test": [PUBLIC, "::ffff:127.0.0.1"]}) as (made, fetcher):
            await refused(fetcher, "http://both.test/")
            assert not made.dialled

    async def test_a_name_that_changes_its_mind(self) -> None:
        """It is looked up once, and the connection goes to the address that was checked."""
        async with net({"/cat.png": ok(picture())}) as (made, fetcher):
            made.names["cats.test"] = [[PUBLIC], [LOOPBACK]]
            assert await fetch(fetcher) == picture()
            assert (made.looked_up, made.dialled) == (["cats.test"], [(PUBLIC, 80)])
            await refused(fetcher)
            assert made.dialled == [(PUBLIC, 80)]

    async def test_a_name_that_changes_its_mind_between_hops(self) -> None:
        async with net({"/cat.png": to("/there.png"), "/there.png": ok(picture())}) as (made, fetcher):
            made.names["cats.test"] = [[PUBLIC], [LOOPBACK]]
            await refused(fetcher)
            assert made.dialled == [(PUBLIC, 80)]

    @pytest.mark.parametrize(
        "target",
        [
            "http://127.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://inside.test/",
            "file:///etc/passwd",
            "http://cats.test:6379/",
        ],
    )
    async def test_redirects_to_where_nobody_may_go(self, target: str) -> None:
        names = {host: [host] for host in (LOOPBACK, "169.254.169.254", "::ffff:127.0.0.1")}
        async with net({"/cat.png": to(target)}, {**names, "inside.test": ["192.168.0.1"]}) as (made, fetcher):
            await refused(fetcher)
            assert made.dialled == [(PUBLIC, 80)]

    async def test_redirects_are_followed_so_far(self) -> None:
        hops = {f"/{number}": to(f"/{number + 1}", 307) for number in range(10)}
        hops[f"/{MAX_REDIRECTS}"] = ok(picture())
        async with net(hops) as (made, fetcher):
            assert await fetch(fetcher, "http://cats.test/0") == picture()
            hops[f"/{MAX_REDIRECTS}"] = to("/cat.png")
            assert "too often" in await refused(fetcher, "http://cats.test/0")
            assert len(made.dialled) == 2 * (1 + MAX_REDIRECTS)

    async def test_numbers_that_the_system_reads_as_addresses(self) -> None:
        """The system's own resolver says what they are."""
        fetcher = Fetcher(FetchRules(PORTS))
        for host in ("127.0.0.1", "2130706433", "0x7f.1", "127.1", "localhost", "[::1]", "[::ffff:7f00:1]", "0"):
            assert "no public host" in await refused(fetcher, f"http://{host}/")
        fetcher.close()

    async def test_no_proxy_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        async with net({"/cat.png": ok(picture())}) as (made, fetcher):
            assert await fetch(fetcher) == picture()
            assert made.asked[0].startswith("GET /cat.png HTTP/1.1\r\n")

    async def test_the_next_address_where_one_does_not_answer(self) -> None:
        async with net({"/cat.png": ok(picture())}, {"cats.test": ["8.8.8.8", PUBLIC]}) as (made, _):

            async def dial(address: str, *rest: Any) -> Any:
                if address == "8.8.8.8":
                    raise ConnectionRefusedError
                return await made.dial(address, *rest)

            patient = Fetcher(FetchRules(PORTS), made.resolve, dial)
            assert await fetch(patient) == picture()
            patient.close()


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server has to prove that it is `name`, and what a client has that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + made.public_bytes(Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


class TestTls:
    @asynccontextmanager
    async def server(self, tls: ssl.SSLContext) -> AsyncIterator[Net]:
        made = Net({"/cat.png": ok(picture())})
        server = await asyncio.start_server(made.serve, LOOPBACK, 0, ssl=tls)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            server.close()

    async def fetch(self, made: Net, url: str, trusted: ssl.SSLContext | None) -> bytes:
        async def dial(address: str, port: int, tls: ssl.SSLContext | None, host: str) -> Any:
            made.dialled.append((address, port))
            return await dial_directly(LOOPBACK, made.port, tls, host)

        fetcher = Fetcher(FetchRules(PORTS), made.resolve, dial, trusted)
        try:
            return await fetch(fetcher, url)
        finally:
            fetcher.close()

    async def test_the_host_must_prove_who_it_is(self, tmp_path: Path) -> None:
        tls, trusted = certificate(tmp_path, "cats.test")
        async with self.server(tls) as made:
            assert await self.fetch(made, "https://cats.test/cat.png", trusted) == picture()
            assert made.dialled == [(PUBLIC, 443)]
            for url, trust in (("https://dogs.test/cat.png", trusted), ("https://cats.test/cat.png", None)):
                with pytest.raises(BadPicture, match="cannot be fetched"):
                    await self.fetch(made, url, trust)
            assert len(made.asked) == 1


class TestWhatComesBack:
    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut off",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ncut",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
            to(""),
            ok(b""),
            ok(gzip.compress(picture()), "Content-Encoding: gzip"),
        ],
    )
    async def test_what_is_no_picture(self, answer: bytes) -> None:
        async with net({"/cat.png": answer, "/": answer}) as (_, fetcher):
            assert await refused(fetcher)

    async def test_the_type_is_not_believed(self) -> None:
        async with net({"/cat.png": ok(picture(), "Content-Type: text/html")}) as (_, fetcher):
            found = await fetcher.fetch("http://cats.test/cat.png", LIMIT_BYTES, 20, lambda _: None)
            assert found.media_type == ""

    async def test_too_large_by_its_own_account(self) -> None:
        async with net({"/cat.png": b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n"}) as (_, fetcher):
            with pytest.raises(TooLarge):
                await fetch(fetcher)

    async def test_too_large_in_truth(self) -> None:
        endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2 * LIMIT_BYTES
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"x" * 65535 + b"\r\n"
        chunked += b"ffff\r\n" + b"x" * 65535 + b"\r\n0\r\n\r\n"
        for answer in (endless, chunked):
            async with net({"/cat.png": answer}) as (_, fetcher):
                with pytest.raises(TooLarge):
                    await fetch(fetcher)

    async def test_too_slow(self) -> None:
        async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.02)

        async with net({}, handle=drip) as (_, fetcher):
            assert "did not arrive within 0.5 s" in await refused(fetcher, limit_s=0.5)

    async def test_memory_is_asked_for_as_it_comes(self) -> None:
        taken: list[int] = []
        async with net({"/cat.png": ok(picture(size_bytes=90_000))}) as (_, fetcher):
            await fetcher.fetch("http://cats.test/cat.png", LIMIT_BYTES, 20, taken.append)
        assert sum(taken) == 90_000
        assert len(taken) > 1


class TestThroughTheGateway:
    @asynccontextmanager
    async def server(self) -> AsyncIterator[Net]:
        made = Net({"/cat.png": ok(picture("cat")), "/dog.png": ok(picture("dog", 500)), "/large.png": ok(b"x" * 9000)})
        server = await asyncio.start_server(made.serve, LOOPBACK, 0)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            server.close()

    async def test_pictures_from_a_permitted_network(self) -> None:
        async with self.server() as made:
            settings = {
                "picture_urls": True,
                "picture_url_networks": "127.0.0.0/8",
                "picture_url_ports": str(made.port),
            }
            async with vision_fleet(picture_limit_bytes=8000, **settings) as fleet:
                base = f"http://127.0.0.1:{made.port}"
                cat, dog = shows(f"{base}/cat.png"), shows(f"{base}/dog.png")
                response = await fleet.ask("?", cat, dog, picture("cow", 700), cat)
                assert response.json()["choices"][0]["message"]["content"] == " I see [1000, 500, 700, 1000]"
                assert len(made.asked) == 2, "what is shown twice is fetched once"
                error = error_of(await fleet.ask("?", shows(f"{base}/large.png")), 413)
                assert error == ("messages[0].content[1]", "image_too_large")
                body = {"model": "starter-vision", "messages": [{"role": "user", "content": "?"}]}
                response = await fleet.client.post("/vision", json={**body, "image": f"{base}/cat.png"})
                assert response.json()["content"] == "I see [1000]"

    async def test_nothing_inside_otherwise(self) -> None:
        async with self.server() as made:
            async with vision_fleet(picture_urls=True, picture_url_ports=str(made.port)) as fleet:
                error = error_of(await fleet.ask("?", shows(f"http://127.0.0.1:{made.port}/cat.png")))
                assert error == ("messages[0].content[1]", "invalid_image_url")
            async with vision_fleet(picture_url_networks="127.0.0.0/8", picture_url_ports=str(made.port)) as fleet:
                response = await fleet.ask("?", shows(f"http://127.0.0.1:{made.port}/cat.png"))
                assert "not fetched from the net here" in response.json()["error"]["message"]
            assert not made.asked

    async def test_what_is_fetched_counts_as_memory(self) -> None:
        async with self.server() as made:
            settings = {
                "picture_urls": True,
                "picture_url_networks": "127.0.0.0/8",
                "picture_url_ports": str(made.port),
            }
            async with vision_fleet(bodies_limit_bytes=2048, **settings) as fleet:
                url = f"http://127.0.0.1:{made.port}/large.png"
                assert error_of(await fleet.ask("?", shows(url)), 503)[1] == "overloaded"
                assert (await fleet.ask("?", shows(url.replace("large", "cat")))).status_code == 200

    def test_a_network_that_is_none(self) -> None:
        with pytest.raises(StartError, match="PICTURE_URL_NETWORKS"):
            Gateway(Settings(picture_url_networks="10.0.0.0/99"))
