"""What the scheduler's decisions are about: replicas, models, tickets and leases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple


class Priority(IntEnum):
    """How urgent a request is; lower goes first."""

    URGENT = 1
    NORMAL = 2
    BACKGROUND = 3


class Load(Enum):
    """How far a model is from answering on a replica."""

    UNKNOWN = "unknown"
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


class Outcome(Enum):
    """How a request ended. Only the replica's own failures say something about the replica."""

    UNKNOWN = "unknown"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    CLIENT_ERROR = "client_error"
    REPLICA_BUSY = "replica_busy"
    REPLICA_FAILED = "replica_failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    GATEWAY_ERROR = "gateway_error"


class ModelKey(NamedTuple):
    """A model of the fleet: its modality, as the number that the protos give it, and its name."""

    modality: int
    name: str


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model on one replica. `slots` of a model that is not loaded is what the replica expects; 0 means not known.

    `original` is the replica's own description, not looked at here.
    """

    load: Load
    slots: int
    slots_used: int = 0
    memory_bytes: int = 0
    pinned: bool = False
    original: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says of itself. `original` is its own message, handed on to gateways and not looked at here.

    `free_bytes` is the memory that a new model could have without another making room; 0 means none, or not known.
    """

    replica_id: str
    generation: int
    modality: int
    address: str
    models: Mapping[str, ModelReport]
    draining: bool = False
    queued: int = 0
    queue_limit: int = 0
    free_bytes: int = 0
    original: object = field(default=None, compare=False)

    def model_keys(self) -> list[ModelKey]:
        """Its models as the fleet knows them."""
        return [ModelKey(self.modality, name) for name in self.models]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Asks for a place. `stream` is the gateway stream that it came on; `wait_limit_s` counts from its arrival, 0 is no wish."""

    stream: str
    request_id: str
    key: ModelKey
    priority: Priority = Priority.NORMAL
    slots: int = 1
    wait_limit_s: float = 0.0
    tenant: str = ""
    session_id: str = ""
    prefix_hashes: tuple[int, ...] = ()
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that a gateway brings along when it connects."""

    lease_id: str
    request_id: str
    replica_id: str
    key: ModelKey
    slots: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A place that is taken. `generation` is the replica's when the lease was made; None where the replica was not known."""

    lease_id: str
    stream: str
    request_id: str
    replica_id: str
    key: ModelKey
    slots: int
    since_s: float
    generation: int | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica in one decision, as it is explained: the filter that ruled it out, or its scores."""

    replica_id: str
    ruled_out_by: str = ""
    score: float = 0.0
    scores: tuple[tuple[str, float], ...] = ()
