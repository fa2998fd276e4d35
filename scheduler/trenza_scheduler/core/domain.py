"""What the scheduler's decisions are about: replicas, tickets, leases, and the events and actions that connect them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TypeAlias


class Priority(IntEnum):
    """How urgent a request is; lower goes first."""

    URGENT = 1
    NORMAL = 2
    BACKGROUND = 3


class Load(Enum):
    """How far a model is from answering on a replica."""

    LOADABLE = "loadable"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"
    FAILED = "failed"


class Health(Enum):
    """How a replica is, as far as is known. Dead ones are forgotten."""

    LIVE = "live"
    SUSPECT = "suspect"
    DRAINING = "draining"


class Reason(Enum):
    """Why a ticket gets no place."""

    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    NO_CAPACITY = "NO_CAPACITY"
    QUEUE_FULL = "QUEUE_FULL"
    WAIT_LIMIT_EXCEEDED = "WAIT_LIMIT_EXCEEDED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INVALID_TICKET = "INVALID_TICKET"


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model on one replica. `slots` of a model that is not loaded is what the replica expects it to have."""

    load: Load
    slots: int
    slots_used: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says of itself. `original` is its own message, handed on to gateways and not looked at here."""

    replica_id: str
    generation: int
    modality: int
    address: str
    draining: bool
    models: Mapping[str, ModelReport]
    original: object = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """Asks for a place. `stream` is the gateway stream that it came on; `wait_limit_s` counts from its arrival."""

    stream: str
    request_id: str
    model: str
    modality: int
    priority: Priority = Priority.NORMAL
    slots: int = 1
    wait_limit_s: float = 600.0
    tenant: str = ""
    session_id: str = ""
    prefix_hashes: tuple[int, ...] = ()
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lease:
    """A place that is taken. `generation` is that of the replica when the lease was made, None where it was not known."""

    lease_id: str
    stream: str
    request_id: str
    replica_id: str
    model: str
    modality: int
    slots: int
    since_s: float
    generation: int | None


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that a gateway brings along when it connects."""

    lease_id: str
    request_id: str
    replica_id: str
    model: str
    modality: int
    slots: int


# Events


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
    """A gateway ends a lease. `served` is whether the request was served to its end."""

    stream: str
    lease_id: str
    served: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class ShutDown:
    """The scheduler is going to stop: everything that waits is refused."""


Event: TypeAlias = (
    ReplicaBeat
    | ReplicaStreamLost
    | ReplicaLeft
    | GatewayOpened
    | GatewayClosed
    | TicketArrived
    | TicketCancelled
    | LeaseReleased
    | Tick
    | ShutDown
)


# Actions


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
    """The fleet has changed: tell the gateways."""


Action: TypeAlias = Grant | QueueUpdate | Refuse | PushSnapshot


@dataclass(frozen=True, slots=True)
class Limits:
    """What the scheduler takes on, and how long it waits for what."""

    queue_tickets: int = 1024
    longest_wait_s: float = 600.0
    heartbeat_interval_s: float = 2.0
    suspect_after_intervals: float = 2.5
    dead_after_intervals: float = 10.0
    settle_intervals: float = 2.0
    remember_models_s: float = 600.0
    remembered_sessions: int = 16384
    remembered_prefixes: int = 16384
    remembered_stories: int = 4096


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica in one decision: the filter that ruled it out, or its scores."""

    replica_id: str
    ruled_out_by: str = ""
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
