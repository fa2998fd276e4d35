"""A transport in the clear whose certificates a test renews as it likes."""

from __future__ import annotations

import asyncio

import grpc
from trenza_runtime.rpc.channel import open_channel
from trenza_runtime.rpc.tls import Transport


class Renewing(Transport):
    """Opens channels in the clear and counts them; `renew` is what a change of the files is elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[grpc.aio.Channel] = []
        self._now = 1
        self._changed = asyncio.Event()

    @property
    def generation(self) -> int:
        return self._now

    def renew(self) -> None:
        self._now += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def renewal(self, generation: int) -> None:
        while self._now == generation:
            await self._changed.wait()

    def open_channel(self, address: str, role: str) -> grpc.aio.Channel:
        self.opened.append(open_channel(address))
        return self.opened[-1]
