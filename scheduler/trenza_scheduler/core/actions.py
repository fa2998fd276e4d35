"""What the scheduler does about it, carried out by the shell in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trenza_scheduler.core.domain import Lease, Priority, Reason


@dataclass(frozen=True, slots=True)
class Grant:
    """Give a ticket its place."""

    lease: Lease
    address: str
    model_loaded: bool
    waited_s: float
    priority: Priority


@dataclass(frozen=True, slots=True)
class QueueUpdate:
    """Tell a waiting ticket where it stands. `expected_wait_s` 0 means not known."""

    stream: str
    request_id: str
    position: int
    expected_wait_s: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a ticket that it gets no place. `retry_after_s` 0 means that trying again makes no sense."""

    stream: str
    request_id: str
    reason: Reason
    message: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PushSnapshot:
    """The fleet has changed in a way that gateways route by: tell them soon."""


@dataclass(frozen=True, slots=True)
class CutGateway:
    """End a gateway's stream, which counts as closed already."""

    stream: str
    message: str


@dataclass(frozen=True, slots=True)
class CutReplica:
    """End a replica's stream; what still comes on it is to be ignored."""

    stream: str
    message: str


@dataclass(frozen=True, slots=True)
class ReplicaChanged:
    """Something that operators want to read of: a replica "joined", "restarted", became "live", "suspect", "draining" or "dead",
    or "left"."""

    replica_id: str
    change: str


Action: TypeAlias = Grant | QueueUpdate | Refuse | PushSnapshot | CutGateway | CutReplica | ReplicaChanged
