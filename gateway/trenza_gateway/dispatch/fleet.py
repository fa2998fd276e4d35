"""The fleet as the scheduler last showed it: for routing, for the model list, for readiness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2

from trenza_gateway.dispatch.core.picture import Health, Picture, Readiness, Replica, succeed

_HEALTH = {
    scheduler_pb2.REPLICA_HEALTH_LIVE: Health.LIVE,
    scheduler_pb2.REPLICA_HEALTH_SUSPECT: Health.DOUBTFUL,
}
_READINESS = {
    common_pb2.LOAD_STATE_LOADED: Readiness.LOADED,
    common_pb2.LOAD_STATE_LOADING: Readiness.LOADING,
    common_pb2.LOAD_STATE_LOADABLE: Readiness.LOADABLE,
    common_pb2.LOAD_STATE_UNLOADING: Readiness.LOADABLE,
}
_FURTHEST_FIRST = (
    common_pb2.LOAD_STATE_LOADED,
    common_pb2.LOAD_STATE_LOADING,
    common_pb2.LOAD_STATE_LOADABLE,
    common_pb2.LOAD_STATE_UNLOADING,
    common_pb2.LOAD_STATE_FAILED,
    common_pb2.LOAD_STATE_UNSPECIFIED,
)


class Fleet:
    """Holds the last snapshot in the forms that others ask for. `own_slots` tells this gateway's leases by replica."""

    def __init__(self, own_slots: Callable[[], Mapping[str, int]]) -> None:
        self._own_slots = own_slots
        self._views: dict[str, scheduler_pb2.ReplicaView] = {}
        self._models: dict[str, common_pb2.Model] = {}
        self._announced: frozenset[str] = frozenset()
        self._expected: dict[str, scheduler_pb2.ExpectedModel] = {}
        self._picture: Picture | None = None

    def update(self, snapshot: scheduler_pb2.Snapshot) -> None:
        """Takes in a snapshot."""
        heard = {view.state.replica_id: view for view in snapshot.replicas}
        self._views = succeed(self._views, heard, snapshot.settled)
        own = self._own_slots()
        replicas = {name: _replica(view, own.get(name, 0)) for name, view in self._views.items()}
        self._picture = Picture(replicas, snapshot.settled)
        announced = _catalogue(self._views.values())
        self._announced = frozenset(announced)
        self._expected = {expected.model.name: expected for expected in snapshot.expected_models}
        self._models = {name: expected.model for name, expected in self._expected.items()} | announced

    @property
    def picture(self) -> Picture | None:
        """What routing without the scheduler goes by; None before the first snapshot."""
        return self._picture

    @property
    def addresses(self) -> set[str]:
        """Where replicas are."""
        return {view.state.address for view in self._views.values()}

    @property
    def live_replicas(self) -> int:
        """Replicas whose beats arrive and which take requests."""
        return sum(view.health == scheduler_pb2.REPLICA_HEALTH_LIVE for view in self._views.values())

    @property
    def expects_models(self) -> bool:
        """Whether there are models that have a replica when they are asked for, if they have none now."""
        return bool(self._expected)

    def announces(self, name: str) -> bool:
        """Whether a replica knows the model now; one that is scaled to zero is known to nobody."""
        return name in self._announced

    def most_slots(self, name: str) -> int:
        """The most slots of the model on one replica; 0 where some replica has yet to say."""
        if not self.announces(name):
            return self._expected[name].replica_slots if name in self._expected else 0
        found = [
            item.model.slots for view in self._views.values() for item in view.state.models if item.model.name == name
        ]
        return max(found, default=0) if all(found) else 0

    def models(self) -> list[common_pb2.Model]:
        """Every model of the fleet, by name, those that are scaled to zero among them."""
        return [self._models[name] for name in sorted(self._models)]

    def model(self, name: str) -> common_pb2.Model | None:
        """One model, None where no replica knows it and it is not expected either."""
        return self._models.get(name)


def _replica(view: scheduler_pb2.ReplicaView, own_slots: int) -> Replica:
    state = view.state
    loaded = (item.model for item in state.models if item.model.load_state == common_pb2.LOAD_STATE_LOADED)
    return Replica(
        replica_id=state.replica_id,
        address=state.address,
        health=Health.CLOSED if state.draining else _HEALTH.get(view.health, Health.CLOSED),
        modality=state.modality,
        models={item.model.name: _READINESS.get(item.model.load_state, Readiness.ABSENT) for item in state.models},
        slots=sum(model.slots for model in loaded),
        queue_limit=state.queue_limit,
        foreign_slots=max(0, view.leased_slots - own_slots),
    )


def _catalogue(views: Iterable[scheduler_pb2.ReplicaView]) -> dict[str, common_pb2.Model]:
    """Each model as the fleet as a whole offers it: the furthest state, all slots, every capability."""
    catalogue: dict[str, common_pb2.Model] = {}
    for view in views:
        for item in view.state.models:
            known = catalogue.get(item.model.name)
            if known is None:
                known = catalogue[item.model.name] = common_pb2.Model()
                known.CopyFrom(item.model)
            else:
                _merge(known, item.model)
    return catalogue


def _merge(known: common_pb2.Model, other: common_pb2.Model) -> None:
    known.slots += other.slots
    known.context_length = max(known.context_length, other.context_length)
    known.capabilities.extend(set(other.capabilities) - set(known.capabilities))
    if _rank(other) < _rank(known):
        known.load_state = other.load_state
        known.load_progress = other.load_progress
    elif _rank(other) == _rank(known):
        known.load_progress = max(known.load_progress, other.load_progress)


def _rank(model: common_pb2.Model) -> int:
    state = model.load_state
    return _FURTHEST_FIRST.index(state) if state in _FURTHEST_FIRST else len(_FURTHEST_FIRST)
