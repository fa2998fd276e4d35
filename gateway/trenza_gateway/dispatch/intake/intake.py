"""What the jobs of every modality have in common: the model's checks, the priority, the times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.dispatch import faults
from trenza_gateway.dispatch.fleet import Fleet
from trenza_gateway.dispatch.job import Job

SUGGESTED = 8
"""As many models are named to somebody who chose one that cannot do what is asked."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How long a request may take in all, and how long of that it may wait for a place; seconds."""

    request_s: float
    queue_wait_s: float


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a job is: slots that it takes at once, its size in whatever its modality counts, and what it can reuse."""

    slots: int = 1
    size_estimate: int = 0
    prefix_hashes: Sequence[int] = ()


class Intake:
    """Makes jobs. `require` raises RpcFault for a request that cannot be served whoever were to serve it."""

    def __init__(self, fleet: Fleet, limits: JobLimits) -> None:
        self._fleet = fleet
        self._limits = limits

    def require(
        self, name: str, modality: common_pb2.Modality.ValueType, capability: common_pb2.Capability.ValueType
    ) -> common_pb2.Model:
        """The model of that name. Raises RpcFault unless the fleet has it and it is of this modality and can do this."""
        model, picture = self._fleet.model(name), self._fleet.picture
        if model is None:
            raise faults.model_not_found(name) if picture and picture.settled else faults.no_capacity(name)
        if _offers(model, modality, capability):
            return model
        able = self.offering(modality, capability)[:SUGGESTED]
        message = f"The model '{name}' cannot be used here: it does not offer this kind of request."
        if able:
            message += f" These do: {', '.join(able)}."
        raise RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.UNSUPPORTED, message, {"param": "model"})

    def modality(self, name: str) -> common_pb2.Modality.ValueType:
        """What kind of service runs the model of that name; MODALITY_UNSPECIFIED where the fleet has none."""
        model = self._fleet.model(name)
        return common_pb2.MODALITY_UNSPECIFIED if model is None else model.modality

    def refuse_pictures(self, name: str, param: str) -> None:
        """Raises RpcFault for a picture, in the field `param`, that a model is shown which cannot see; it names some that can."""
        if self.modality(name) in (common_pb2.MODALITY_UNSPECIFIED, common_pb2.MODALITY_VISION):
            return
        able = self.offering(common_pb2.MODALITY_VISION, common_pb2.CAPABILITY_IMAGE_INPUT)[:SUGGESTED]
        message = f"The model '{name[: faults.SHOWN_CHARS]}' cannot see pictures."
        message += f" These can: {', '.join(able)}." if able else " No model that can is served now."
        raise RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.PICTURES_UNSUPPORTED, message, {"param": param})

    def offering(
        self, modality: common_pb2.Modality.ValueType, capability: common_pb2.Capability.ValueType
    ) -> list[str]:
        """The names of the fleet's models that can do this."""
        return [model.name for model in self._fleet.models() if _offers(model, modality, capability)]

    def announces(self, name: str) -> bool:
        """Whether the model has a replica now, so that asking it for something small costs no start."""
        return self._fleet.announces(name)

    def most_slots(self, name: str) -> int:
        """The most slots of the model on one replica; 0 where that is not known yet."""
        return self._fleet.most_slots(name)

    def job(
        self,
        context: common_pb2.RequestContext,
        modality: common_pb2.Modality.ValueType,
        effort: Effort,
        time_limit_s: float | None = None,
    ) -> Job:
        """A job that begins now. `time_limit_s` is the caller's own limit for the whole request."""
        now = asyncio.get_running_loop().time()
        deadline = now + min(self._limits.request_s, time_limit_s or self._limits.request_s)
        return Job(
            request_id=context.request_id,
            model=context.model,
            modality=modality,
            priority=context.priority or common_pb2.PRIORITY_CLASS_NORMAL,
            tenant=context.tenant,
            session_id=context.session_id,
            slots=max(1, effort.slots),
            size_estimate=effort.size_estimate,
            prefix_hashes=effort.prefix_hashes,
            arrived_at=now,
            deadline=deadline,
            place_by=min(deadline, now + self._limits.queue_wait_s),
        )


def _offers(
    model: common_pb2.Model, modality: common_pb2.Modality.ValueType, capability: common_pb2.Capability.ValueType
) -> bool:
    return model.modality == modality and (not model.capabilities or capability in model.capabilities)
