"""Decides what follows when a replica fails a request: another place, or the error."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Ending(Enum):
    """How a call to a replica ended, as the scheduler is to judge it."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    CLIENT_ERROR = "client_error"
    REPLICA_BUSY = "replica_busy"
    REPLICA_FAILED = "replica_failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    GATEWAY_ERROR = "gateway_error"


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed. `code` is the status code's name, `begun` says whether an answer had begun to arrive."""

    code: str
    reason: str
    begun: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows: how the lease ends, whether another place is to be sought, and whether that counts as an attempt."""

    ending: Ending
    again: bool = False
    counts: bool = True


_CLIENT_CODES = frozenset(
    {"INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "UNIMPLEMENTED", "PERMISSION_DENIED", "FAILED_PRECONDITION"}
)
_PASSING_CODES = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED", "ABORTED"})
_FULL_REASONS = frozenset({"QUEUE_FULL", "DRAINING", "MODEL_LOADING"})


def judge(failure: Failure, attempts: int, attempt_limit: int, waits_for_room: bool) -> Verdict:
    """What follows a failed call; `attempts` counts those made, this one included.

    Only an answer that has not begun is asked for elsewhere. With `waits_for_room`, a replica that is full costs no
    attempt: nobody with a true picture of the fleet chose it, and the request may wait as long as its time allows.
    """
    ending = _ending(failure)
    if failure.begun or failure.code not in _PASSING_CODES:
        return Verdict(ending)
    counts = not (ending is Ending.REPLICA_BUSY and waits_for_room)
    return Verdict(ending, again=not counts or attempts < attempt_limit, counts=counts)


def _ending(failure: Failure) -> Ending:
    if failure.code in _CLIENT_CODES:
        return Ending.CLIENT_ERROR
    if failure.code == "DEADLINE_EXCEEDED":
        return Ending.DEADLINE_EXCEEDED
    if failure.reason in _FULL_REASONS or failure.code == "RESOURCE_EXHAUSTED":
        return Ending.REPLICA_BUSY
    return Ending.REPLICA_FAILED


def pause_s(attempt: int, first_s: float, most_s: float, draw: float) -> float:
    """How long to wait after attempt number `attempt` (from 1): doubling up to `most_s`, with half of it left to chance."""
    whole = min(most_s, first_s * float(2 ** min(attempt - 1, 30)))
    return whole * (0.5 + 0.5 * draw)
