"""Chooses a replica while the scheduler is away: filter, best tier, then the less loaded of two drawn at random."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from trenza_gateway.dispatch.core.picture import Health, Picture, Readiness, Replica


class Nowhere(Enum):
    """Why no replica can be chosen."""

    UNKNOWN_MODEL = "no replica knows the model"
    NO_REPLICA = "every replica that knows the model is closed, failing or excluded"
    FULL = "every replica that knows the model has as much as it takes"


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs of a replica."""

    model: str
    modality: int
    slots: int


def choose(
    picture: Picture,
    need: Need,
    own_slots: Mapping[str, int],
    avoided: Collection[str],
    draws: tuple[float, float],
) -> Replica | Nowhere:
    """The replica to send a request to.

    `own_slots` are the slots that this gateway's own requests take by replica, `avoided` the replicas that have just
    failed, `draws` two random numbers in [0, 1).
    """
    knowing = [replica for replica in picture.replicas.values() if _serves(replica, need)]
    if not knowing:
        return Nowhere.UNKNOWN_MODEL
    fit = [
        r
        for r in knowing
        if r.health is not Health.CLOSED
        and r.models[need.model] is not Readiness.ABSENT
        and r.replica_id not in avoided
    ]
    if not fit:
        return Nowhere.NO_REPLICA
    roomy = [replica for replica in fit if _room(replica, own_slots) >= need.slots]
    if not roomy:
        return Nowhere.FULL
    best = max(_tier(replica, need) for replica in roomy)
    return _less_loaded_of_two([r for r in roomy if _tier(r, need) == best], own_slots, draws)


def _serves(replica: Replica, need: Need) -> bool:
    return need.model in replica.models and need.modality in (0, replica.modality)


def _tier(replica: Replica, need: Need) -> tuple[Health, Readiness]:
    return replica.health, replica.models[need.model]


def _taken(replica: Replica, own_slots: Mapping[str, int]) -> int:
    return own_slots.get(replica.replica_id, 0) + replica.foreign_slots


def _room(replica: Replica, own_slots: Mapping[str, int]) -> int:
    """Slots that may still be asked for; an idle replica takes a request of any size and judges for itself."""
    taken = _taken(replica, own_slots)
    limit = max(replica.slots, 1) + replica.queue_limit
    return limit - taken if taken else max(limit, 2**31)


def _less_loaded_of_two(
    replicas: Sequence[Replica], own_slots: Mapping[str, int], draws: tuple[float, float]
) -> Replica:
    first = int(draws[0] * len(replicas))
    second = int(draws[1] * (len(replicas) - 1)) if len(replicas) > 1 else first
    if len(replicas) > 1 and second >= first:
        second += 1
    one, other = replicas[first], replicas[second]
    return other if _load(other, own_slots) < _load(one, own_slots) else one


def _load(replica: Replica, own_slots: Mapping[str, int]) -> float:
    return _taken(replica, own_slots) / max(replica.slots, 1)
