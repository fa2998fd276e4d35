"""The fleet as last heard of, reduced to what routing without the scheduler needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar


class Readiness(IntEnum):
    """How near a model is to answering on a replica; higher is nearer."""

    ABSENT = 0
    LOADABLE = 1
    LOADING = 2
    LOADED = 3


class Health(IntEnum):
    """How fit a replica is to be sent requests; higher is fitter."""

    CLOSED = 0
    DOUBTFUL = 1
    LIVE = 2


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica: `slots` run together, `queue_limit` more may wait, `foreign_slots` are taken by other gateways."""

    replica_id: str
    address: str
    health: Health
    modality: int
    models: Mapping[str, Readiness]
    slots: int
    queue_limit: int = 0
    foreign_slots: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """Every replica that is not dead. `settled` says whether the scheduler had had time to hear all of them."""

    replicas: Mapping[str, Replica]
    settled: bool


_T = TypeVar("_T")


def succeed(old: Mapping[str, _T], new: Mapping[str, _T], settled: bool) -> dict[str, _T]:
    """What is known of each replica once a new snapshot has arrived.

    A scheduler that has just started knows only the replicas that have beaten since; until it has settled, those that
    it does not know yet are kept as they were.
    """
    return dict(new) if settled else {**old, **new}
