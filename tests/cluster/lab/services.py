"""Services of the laboratory: a loopback address for each, whose connections go round the endpoints that are ready.

It follows EndpointSlices as kube-proxy does: new connections go to ready endpoints, to terminating ones that still serve only
where none is ready, and established ones are left alone. Session affinity is not kept: all clients come from one address.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping, Sequence
from itertools import count

from cluster.lab.addresses import Loopback, local
from cluster.lab.cluster import Cluster, Object

CONNECT_LIMIT_S = 5.0
WATCH_S = 3.0
SERVICE = re.compile(r"\b([a-z0-9-]+)\.(trenza-[a-z0-9-]+)\.svc(?:\.cluster\.local)?\b")
Endpoint = tuple[str, int]


class ServiceNetwork:
    """The Services of a namespace. `resolve` is its DNS."""

    def __init__(self, cluster: Cluster, namespace: str, loopback: Loopback, group: int) -> None:
        self._cluster, self.namespace = cluster, namespace
        self._loopback, self._group = loopback, group
        self._addresses: dict[str, str] = {}
        self._endpoints: Mapping[tuple[str, str], list[Endpoint]] = {}
        self._turn = count()
        self._relays: set[asyncio.Task[None]] = set()
        self.troubles: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._loop.run_forever, self._follow)]
        self._lock = threading.Lock()

    def start(self) -> ServiceNetwork:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        asyncio.run_coroutine_threadsafe(end_tasks(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(60)

    def address(self, service: str) -> str:
        """The loopback address of a Service, which is made and listened on when it is first asked for."""
        with self._lock:
            if service not in self._addresses:
                address = self._loopback.service(self._group, len(self._addresses) + 1)
                found = self._cluster.get(f"/api/v1/namespaces/{self.namespace}/services/{service}")
                for port in found["spec"]["ports"]:
                    serving = self._listen(service, str(port["name"]), address, int(port["port"]))
                    asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
                self._addresses[service] = address
            return self._addresses[service]

    def pod_address(self, number: int) -> str:
        """The address of the namespace's pod of that number, from 1 on."""
        return self._loopback.pod(self._group, number)

    def resolve(self, text: str, namespace: str) -> str:
        """A text in which the names of Services are their addresses here."""

        def replaced(match: re.Match[str]) -> str:
            assert match.group(2) == self.namespace == namespace
            return self.address(match.group(1))

        return SERVICE.sub(replaced, text)

    def _follow(self) -> None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        while not self._stopping.is_set():
            for known in self._cluster.watch(path, WATCH_S):
                self._endpoints = _endpoints(list(known.values()))
                if self._stopping.is_set():
                    return

    async def _listen(self, service: str, port_name: str, address: str, port: int) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            relay = asyncio.current_task()
            assert relay is not None
            self._relays.add(relay)  # asyncio itself forgets a connection of which one side has ended
            relay.add_done_callback(self._relays.discard)
            endpoints = self._endpoints.get((service, port_name), [])
            if not endpoints:
                self.troubles.append(f"{service}: no endpoint for {port_name}")
                writer.transport.abort()
                return
            endpoint = endpoints[next(self._turn) % len(endpoints)]
            if trouble := await _relay(endpoint, reader, writer):
                self.troubles.append(f"{service}: {endpoint} {trouble}")

        await asyncio.start_server(connected, address, port, backlog=512)


async def end_tasks() -> None:
    """Ends everything that runs in this loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _relay(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Carries bytes both ways until both ends have said their last. Returns what went wrong with the endpoint, or ""."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            far_reader, far_writer = await asyncio.open_connection(*endpoint)
    except OSError as error:
        writer.transport.abort()
        return f"did not take a connection: {error!r}"
    try:
        _, trouble = await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        return trouble
    finally:
        writer.close()
        far_writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError as error:
        writer.transport.abort()
        return f"broke off: {error!r}"
    return ""


def _endpoints(slices: Sequence[Object]) -> Mapping[tuple[str, str], list[Endpoint]]:
    """Where connections to each Service's ports may go."""
    ready: dict[tuple[str, str], list[Endpoint]] = {}
    serving: dict[tuple[str, str], list[Endpoint]] = {}
    for piece in slices:
        service = piece["metadata"]["labels"]["kubernetes.io/service-name"]
        for port in piece.get("ports") or ():
            for endpoint in piece.get("endpoints") or ():
                state = endpoint.get("conditions", {})
                place = (local(endpoint["addresses"][0]), int(port["port"]))
                for wanted, table in (("ready", ready), ("serving", serving)):
                    if state.get(wanted):
                        table.setdefault((service, port["name"]), []).append(place)
    return {**serving, **ready}
