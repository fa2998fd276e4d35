"""Which models the mesh has and how far each is, as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime.rpc.peers import SCHEDULER
from trenza_runtime.rpc.tls import Transport

from trenza_local.summary import Model

ASK_LIMIT_S = 2.0
_NEAREST = (
    common_pb2.LOAD_STATE_LOADED,
    common_pb2.LOAD_STATE_LOADING,
    common_pb2.LOAD_STATE_UNLOADING,
    common_pb2.LOAD_STATE_LOADABLE,
    common_pb2.LOAD_STATE_FAILED,
)


async def known_models(transport: Transport, scheduler_address: str, replicas: int) -> list[Model] | None:
    """The fleet's models by name; None while fewer than `replicas` have said what they have, or nobody answers."""
    async with transport.open_channel(scheduler_address, SCHEDULER) as channel:
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        try:
            answer = await stub.GetSnapshot(scheduler_pb2.GetSnapshotRequest(), timeout=ASK_LIMIT_S)
        except grpc.aio.AioRpcError:
            return None
    views = answer.snapshot.replicas
    if len(views) < replicas:
        return None
    return summarise(state for view in views for state in view.state.models)


def summarise(states: Iterable[scheduler_pb2.ModelState]) -> list[Model]:
    """One line a model out of what all replicas say of it."""
    best: dict[str, scheduler_pb2.ModelState] = {}
    for state in states:
        name = state.model.name
        if name not in best or _rank(state) < _rank(best[name]):
            best[name] = state
    return [_model(best[name]) for name in sorted(best)]


def _rank(state: scheduler_pb2.ModelState) -> int:
    return _NEAREST.index(state.model.load_state) if state.model.load_state in _NEAREST else len(_NEAREST)


def _model(state: scheduler_pb2.ModelState) -> Model:
    load_state = state.model.load_state
    words = {
        common_pb2.LOAD_STATE_LOADED: "ready",
        common_pb2.LOAD_STATE_LOADING: f"loading, {state.model.load_progress:.0%}",
        common_pb2.LOAD_STATE_FAILED: f"cannot be loaded: {state.failure}",
    }.get(load_state, "loads when it is first asked for")
    modality = common_pb2.Modality.Name(state.model.modality).removeprefix("MODALITY_").lower()
    return Model(state.model.name, modality, words, settled=load_state != common_pb2.LOAD_STATE_LOADING)
