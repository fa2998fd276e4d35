"""KEDA's external scaler: checks what a trigger says, and answers for its model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from trenza.keda.v1 import externalscaler_pb2, externalscaler_pb2_grpc
from trenza_runtime.errors import Reason, RpcFault

from trenza_scheduler.core.activity import Trigger
from trenza_scheduler.core.domain import ModelKey
from trenza_scheduler.scaling import Scaling, TooManyStreams
from trenza_scheduler.translate import MODALITIES, NAME_LIMIT

MOST_SLOTS = 1e9
"""The largest figure that a trigger may give."""
RETRY_S = 1.0

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class ScaledModel:
    """What a trigger's metadata say."""

    trigger: Trigger
    target_slots: float

    @property
    def metric_name(self) -> str:
        """Lower case, and fit for the path of a URL; KEDA puts the trigger's number before it, so that no two are the same."""
        name = re.sub(r"[^a-z0-9]+", "-", self.trigger.key.name.lower()).strip("-")
        return f"trenza-demand-{MODALITIES[self.trigger.key.modality]}-{name}"


class KedaServicer(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Serves `externalscaler.ExternalScaler`."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling

    async def IsActive(
        self, request: externalscaler_pb2.ScaledObjectRef, _context: Context
    ) -> externalscaler_pb2.IsActiveResponse:
        """Whether there is demand. Raises RpcFault INVALID_ARGUMENT, NOT_FOUND or UNAVAILABLE."""
        trigger = scaled_model(request.scaler_metadata).trigger
        active = self._scaling.is_active(trigger)
        if not active:
            self._require_knowledge(trigger.key)
        return externalscaler_pb2.IsActiveResponse(result=active)

    async def StreamIsActive(  # type: ignore[override]  # writes instead of yielding, so that its clean-up runs at once
        self, request: externalscaler_pb2.ScaledObjectRef, context: Context
    ) -> None:
        """Whether there is demand, now and whenever that changes. A model that nobody knows has none until somebody does.

        Ends well when the scheduler stops: KEDA comes back soon after such an end, and ever later after each failure.
        Raises RpcFault INVALID_ARGUMENT or RESOURCE_EXHAUSTED.
        """
        trigger = scaled_model(request.scaler_metadata).trigger
        try:
            watch = self._scaling.open_watch(trigger)
        except TooManyStreams:
            message = "As many streams of StreamIsActive are open as may be."
            raise RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", message) from None
        try:
            while (active := await watch.change()) is not None:
                await context.write(externalscaler_pb2.IsActiveResponse(result=active))
        finally:
            self._scaling.close_watch(watch)

    async def GetMetricSpec(
        self, request: externalscaler_pb2.ScaledObjectRef, _context: Context
    ) -> externalscaler_pb2.GetMetricSpecResponse:
        """The metric and its target. Raises RpcFault INVALID_ARGUMENT."""
        model = scaled_model(request.scaler_metadata)
        spec = externalscaler_pb2.MetricSpec(
            metric_name=model.metric_name,
            target_size=math.ceil(model.target_slots),
            target_size_float=model.target_slots,
        )
        return externalscaler_pb2.GetMetricSpecResponse(metric_specs=[spec])

    async def GetMetrics(
        self, request: externalscaler_pb2.GetMetricsRequest, _context: Context
    ) -> externalscaler_pb2.GetMetricsResponse:
        """The demand. Raises RpcFault INVALID_ARGUMENT, NOT_FOUND or UNAVAILABLE."""
        model = scaled_model(request.scaled_object_ref.scaler_metadata)
        if request.metric_name not in ("", model.metric_name):
            asked = request.metric_name[:NAME_LIMIT]
            raise _invalid(f"This trigger's metric is '{model.metric_name}', not '{asked}'.")
        self._require_knowledge(model.trigger.key)
        slots = self._scaling.demand_slots(model.trigger.key)
        value = externalscaler_pb2.MetricValue(
            metric_name=model.metric_name, metric_value=slots, metric_value_float=slots
        )
        return externalscaler_pb2.GetMetricsResponse(metric_values=[value])

    def _require_knowledge(self, key: ModelKey) -> None:
        """Raises RpcFault where a small figure might be ignorance: an autoscaler leaves everything as it is then."""
        if not self._scaling.settled:
            message = "The scheduler has just started and has not heard every replica and gateway yet."
            raise RpcFault(grpc.StatusCode.UNAVAILABLE, "NOT_SETTLED", message, retry_after_s=RETRY_S)
        if not self._scaling.knows(key):
            message = (
                f"No replica announces the model '{key.name}' ({MODALITIES[key.modality]}), and it is not expected: "
                "TRENZA_SCHEDULER_EXPECTED_MODELS lists the models that may be scaled to zero."
            )
            raise RpcFault(grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND, message)


def scaled_model(metadata: Mapping[str, str]) -> ScaledModel:
    """What a trigger's metadata say. Raises RpcFault INVALID_ARGUMENT with a sentence on what is wrong with them."""
    words = {word: number for number, word in MODALITIES.items()}
    modality = words.get(metadata.get("modality", ""))
    if modality is None:
        raise _invalid(f"The trigger's `modality` has to be one of {', '.join(words)}.")
    name = metadata.get("model", "")
    if not 0 < len(name) <= NAME_LIMIT:
        raise _invalid(f"The trigger's `model` is missing, or longer than {NAME_LIMIT} characters.")
    target = _slots(metadata, "targetSlots", "")
    if target <= 0:
        raise _invalid("The trigger's `targetSlots` has to be more than 0.")
    return ScaledModel(Trigger(ModelKey(modality, name), _slots(metadata, "activationSlots", "0")), target)


def _slots(metadata: Mapping[str, str], name: str, default: str) -> float:
    try:
        value = float(metadata.get(name, default))
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_SLOTS:
        raise _invalid(f"The trigger's `{name}` has to be a number of slots, such as 3.2.")
    return value


def _invalid(message: str) -> RpcFault:
    return RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message)
