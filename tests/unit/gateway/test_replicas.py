"""Channels to replicas, when addresses change hands and certificates are renewed."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from renewing import Renewing
from trenza.common.v1 import common_pb2
from trenza_gateway.dispatch.replicas import Replicas

CHAT, IMAGES = common_pb2.MODALITY_CHAT, common_pb2.MODALITY_IMAGES
ADDRESS = "127.0.0.1:1"


@pytest.fixture
async def transport() -> Renewing:
    return Renewing()


async def closed(channel: Any) -> bool:
    await asyncio.sleep(0)
    return bool(channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)


async def until_closed(channel: Any) -> None:
    async with asyncio.timeout(5):
        while not await closed(channel):  # noqa: ASYNC110  a channel tells nobody that it is closed
            await asyncio.sleep(0.005)


async def test_one_channel_while_nothing_changes(transport: Renewing) -> None:
    replicas = Replicas(transport)
    with replicas.at(ADDRESS, CHAT) as one, replicas.at(ADDRESS, CHAT) as other:
        assert one is other
    with replicas.at(ADDRESS, CHAT) as again:
        assert again is one
    await replicas.close()
    assert await closed(one.channel)


async def test_after_a_renewal_new_calls_get_a_new_channel_and_running_ones_keep_theirs(transport: Renewing) -> None:
    replicas = Replicas(transport)
    with replicas.at(ADDRESS, CHAT) as old:
        transport.renew()
        with replicas.at(ADDRESS, CHAT) as new:
            assert new.channel is not old.channel
        assert not await closed(old.channel)
    await until_closed(old.channel)
    assert not await closed(new.channel)
    transport.renew()
    with replicas.at(ADDRESS, CHAT):
        await until_closed(new.channel)
    await replicas.close()


async def test_an_address_that_passes_to_another_modality_is_another_place(transport: Renewing) -> None:
    replicas = Replicas(transport)
    with replicas.at(ADDRESS, CHAT) as chat, replicas.at(ADDRESS, IMAGES) as images:
        assert chat.channel is not images.channel
    replicas.keep(())
    await until_closed(chat.channel)
    await until_closed(images.channel)
    await replicas.close()
