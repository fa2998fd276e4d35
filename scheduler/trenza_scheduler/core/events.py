"""What can happen to the scheduler. Streams are named by the shell; a name is never used twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trenza_scheduler.core.domain import HeldLease, Outcome, ReplicaReport, Ticket


@dataclass(frozen=True, slots=True)
class ReplicaBeat:
    """A heartbeat arrived on a stream."""

    stream: str
    report: ReplicaReport


@dataclass(frozen=True, slots=True)
class ReplicaStreamLost:
    """A replica's stream broke."""

    stream: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class ReplicaLeft:
    """A replica says that it is leaving for good."""

    stream: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class GatewayOpened:
    """A gateway's stream begins."""

    stream: str
    gateway_id: str
    held: tuple[HeldLease, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayClosed:
    """A gateway's stream ended, for whatever reason."""

    stream: str


@dataclass(frozen=True, slots=True)
class TicketArrived:
    """A gateway asks for a place."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class TicketCancelled:
    """A gateway withdraws a ticket."""

    stream: str
    request_id: str


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """A gateway ends a lease."""

    stream: str
    lease_id: str
    outcome: Outcome = Outcome.COMPLETED


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; due at `Machine.wake_s` at the latest."""


@dataclass(frozen=True, slots=True)
class ShutDown:
    """The scheduler is going to stop: everything that waits is refused, and so is what comes."""


FromGateway: TypeAlias = TicketArrived | TicketCancelled | LeaseReleased | GatewayOpened | GatewayClosed
FromReplica: TypeAlias = ReplicaBeat | ReplicaStreamLost | ReplicaLeft
Event: TypeAlias = FromGateway | FromReplica | Tick | ShutDown
