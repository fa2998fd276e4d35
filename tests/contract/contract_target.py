"""What a contract test talks to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A gateway. `parrots` says that its model repeats what it is told."""

    http_url: str
    grpc_address: str
    parrots: bool
