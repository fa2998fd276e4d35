"""Channels to other Trenza processes."""

from __future__ import annotations

import grpc

KEEPALIVE_S = 20
"""How often an idle connection is probed, in seconds; servers allow probes twice as often (see `server.py`)."""
KEEPALIVE_TIMEOUT_S = 10
"""How long a probe may stay unanswered before the connection counts as dead."""
MAX_MESSAGE_BYTES = 32 * 2**20
"""Largest message, either way. Media travel in chunks far below that."""


_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy is for the way out; these calls stay inside the mesh
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def open_channel(
    address: str, credentials: grpc.ChannelCredentials | None = None, expected_name: str = ""
) -> grpc.aio.Channel:
    """A channel to `host:port` that notices a dead peer even while no message flows, and reconnects within about a second.

    Each call makes a connection of its own: two channels to one address share nothing. Without credentials it is in the clear;
    with them, `expected_name` is what the certificate of the peer has to name, whatever its address.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    name = ("grpc.ssl_target_name_override", expected_name)
    return grpc.aio.secure_channel(address, credentials, options=(*_OPTIONS, name))
