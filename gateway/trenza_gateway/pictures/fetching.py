"""Fetches pictures from the net for people who are not trusted with what this machine can reach.

Every address that a host has is checked, the connection is made to a checked address (a name is looked up once for each hop),
every hop of a redirect is checked anew, and no proxy of the environment is used. What comes back is bounded in size and time;
what it says about itself is not believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import h11

from trenza_gateway.pictures.addresses import Network, is_permitted
from trenza_gateway.pictures.locations import Location, location_of, redirected
from trenza_gateway.pictures.picture import PIECE_BYTES, BadPicture, EncodedPicture, TooLarge

MAX_REDIRECTS = 3
MAX_ADDRESSES = 4
"""As many addresses of a host are tried."""
MAX_HEAD_BYTES = 32 * 1024
AT_ONCE = 32
"""Pictures that are fetched at the same time, for all requests."""
LOOKUPS_AT_ONCE = 8
_READ_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The numeric addresses of a host and port. Raises OSError."""
Dial = Callable[[str, int, ssl.SSLContext | None, str], Awaitable[Streams]]
"""Connects to a numeric address and port; TLS where there is a context, in which the peer must prove to be that host."""
Take = Callable[[int], None]
"""Told how many bytes more have come; raises where that is too many."""


@dataclass(frozen=True, slots=True)
class FetchRules:
    """From which ports, and from which networks beside the public internet, pictures may come."""

    ports: frozenset[int]
    networks: Sequence[Network] = ()


class Fetcher:
    """Fetches pictures. `resolve`, `dial` and `tls`, which says whose certificates are trusted, stand for the system's own."""

    def __init__(
        self,
        rules: FetchRules,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._lookups = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="looks-up-hosts")
        self._resolve = resolve or self._look_up
        self._dial = dial or dial_directly
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tls = tls or ssl.create_default_context()

    async def fetch(self, url: str, limit_bytes: int, limit_s: float, take: Take) -> EncodedPicture:
        """The picture at a URL. Raises BadPicture, and whatever `take` raises."""
        location = location_of(url, self._rules.ports)
        try:
            async with asyncio.timeout(limit_s), self._places:
                return EncodedPicture.of(await self._follow(location, limit_bytes, take))
        except TimeoutError:
            raise _unreachable(f"The picture did not arrive within {limit_s:g} s.") from None

    def close(self) -> None:
        """Gives up what is still being looked up."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, location: Location, limit_bytes: int, take: Take) -> Sequence[bytes]:
        for _ in range(1 + MAX_REDIRECTS):
            found = await self._get(location, limit_bytes, take)
            if not isinstance(found, str):
                return found
            location = redirected(location, found, self._rules.ports)
        raise _unreachable("The URL is redirected too often.")

    async def _get(self, location: Location, limit_bytes: int, take: Take) -> Sequence[bytes] | str:
        """The picture at a location in pieces, or else where it is said to be."""
        addresses = await self._addresses(location)
        try:
            async with (
                self._connection(location, addresses) as (reader, writer),
                aclosing(_exchange(location, reader, writer)) as events,
            ):
                head = await anext(events, None)
                if not isinstance(head, h11.Response):
                    raise _unreachable("The server of the picture does not answer as it should.")
                if head.status_code in _REDIRECTS:
                    return _header(head, b"location")
                _check(head, limit_bytes)
                return await _body(events, limit_bytes, take)
        except h11.RemoteProtocolError:
            raise _unreachable("The server of the picture does not answer as it should.") from None
        except OSError:  # ssl.SSLError is one
            raise _unreachable(f"The picture cannot be fetched from '{location.host}'.") from None

    async def _addresses(self, location: Location) -> Sequence[str]:
        """The addresses of a host, all of which are permitted."""
        try:
            found = await self._resolve(location.host, location.port)
        except (OSError, UnicodeError):
            found = ()
        if not found or not all(is_permitted(address, self._rules.networks) for address in found):
            # The same words for both, so that nobody learns which names are known inside.
            raise _unreachable(f"There is no public host '{location.host}'.")
        return found[:MAX_ADDRESSES]

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(item[4][0]) for item in found))

        return await asyncio.get_running_loop().run_in_executor(self._lookups, ask)

    @asynccontextmanager
    async def _connection(self, location: Location, addresses: Sequence[str]) -> AsyncIterator[Streams]:
        reader, writer = await self._connected(location, addresses)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()  # nothing is worth waiting for: each connection serves one picture

    async def _connected(self, location: Location, addresses: Sequence[str]) -> Streams:
        failure: OSError | None = None
        for address in addresses:
            try:
                return await self._dial(address, location.port, self._tls if location.secure else None, location.host)
            except OSError as error:
                failure = error
        raise failure or OSError("no address")


async def dial_directly(address: str, port: int, tls: ssl.SSLContext | None, host: str) -> Streams:
    """Connects by the system's own means."""
    return await asyncio.open_connection(
        address, port, ssl=tls, server_hostname=host if tls else None, flags=socket.AI_NUMERICHOST
    )


async def _exchange(
    location: Location, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncGenerator[h11.Event, None]:
    """Asks for the target; the answer's head, then the pieces of its body."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    headers = [
        ("Host", location.authority),
        ("User-Agent", "Trenza"),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    request = h11.Request(method="GET", target=location.target, headers=headers)
    writer.write(connection.send(request) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            return
        elif isinstance(event, h11.Response | h11.Data):
            yield event


def _check(head: h11.Response, limit_bytes: int) -> None:
    if head.status_code != 200:
        raise _unreachable(f"The server of the picture answered with status {head.status_code}.")
    if _header(head, b"content-encoding").lower() not in ("", "identity"):
        raise _unreachable("The server of the picture sent it compressed, which nobody asked for.")
    length = _header(head, b"content-length")
    if length.isdigit() and int(length[:20]) > limit_bytes:
        raise TooLarge(limit_bytes)


async def _body(events: AsyncGenerator[h11.Event, None], limit_bytes: int, take: Take) -> Sequence[bytes]:
    pieces: list[bytes] = []
    growing, size_bytes = bytearray(), 0
    async for event in events:
        if isinstance(event, h11.Data):
            size_bytes += len(event.data)
            if size_bytes > limit_bytes:
                raise TooLarge(limit_bytes)
            take(len(event.data))
            growing += event.data
            if len(growing) >= PIECE_BYTES:
                pieces.append(bytes(growing[:PIECE_BYTES]))
                del growing[:PIECE_BYTES]
    if growing:
        pieces.append(bytes(growing))
    if not pieces:
        raise BadPicture("The picture is empty.", "invalid_image")
    return pieces


def _header(head: h11.Response, name: bytes) -> str:
    """The value of a header, empty where there is none."""
    with contextlib.suppress(StopIteration):
        return next(value for key, value in head.headers if key == name).decode("latin-1")
    return ""


def _unreachable(message: str) -> BadPicture:
    return BadPicture(message, "invalid_image_url")
