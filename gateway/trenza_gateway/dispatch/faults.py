"""The faults that dispatching itself ends requests with."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from trenza.scheduler.v1 import scheduler_pb2
from trenza_runtime.errors import Reason, RpcFault

TENANT_LIMIT = "TENANT_LIMIT"
SHOWN_CHARS = 128
"""As much of what a client sent is shown back to it."""

_REFUSALS: Mapping[int, tuple[grpc.StatusCode, str]] = {
    scheduler_pb2.REFUSAL_REASON_MODEL_NOT_FOUND: (grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND),
    scheduler_pb2.REFUSAL_REASON_NO_CAPACITY: (grpc.StatusCode.UNAVAILABLE, Reason.NO_CAPACITY),
    scheduler_pb2.REFUSAL_REASON_QUEUE_FULL: (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL),
    scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED: (grpc.StatusCode.UNAVAILABLE, Reason.WAIT_LIMIT_EXCEEDED),
    scheduler_pb2.REFUSAL_REASON_SHUTTING_DOWN: (grpc.StatusCode.UNAVAILABLE, Reason.DRAINING),
    scheduler_pb2.REFUSAL_REASON_TENANT_LIMIT: (grpc.StatusCode.RESOURCE_EXHAUSTED, TENANT_LIMIT),
}


def refusal_fault(refusal: scheduler_pb2.Refusal) -> RpcFault:
    """What a refusal means to the client."""
    code, reason = _REFUSALS.get(refusal.reason, (grpc.StatusCode.INTERNAL, Reason.INTERNAL))
    retry_after_s = refusal.retry_after_ms / 1000 or None
    return RpcFault(
        code, str(reason), refusal.message or "The scheduler refused the request.", retry_after_s=retry_after_s
    )


def model_not_found(model: str) -> RpcFault:
    """No replica knows the model."""
    message = f"The model '{model[:SHOWN_CHARS]}' does not exist."
    return RpcFault(grpc.StatusCode.NOT_FOUND, Reason.MODEL_NOT_FOUND, message)


def replica_lost(code: grpc.StatusCode) -> RpcFault:
    """The replica broke off without saying why; what gRPC says about it names addresses, which are nobody's business."""
    message = "The replica that served the request was lost."
    return RpcFault(code, Reason.REPLICA_UNREACHABLE, message, retry_after_s=1)


def no_capacity(model: str) -> RpcFault:
    """Nobody can serve the model now."""
    message = f"No replica can serve the model '{model[:SHOWN_CHARS]}' now."
    return RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.NO_CAPACITY, message, retry_after_s=5)


def wait_limit_exceeded() -> RpcFault:
    """The request has waited for a place as long as requests may."""
    message = "The request waited too long for a free place."
    return RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.WAIT_LIMIT_EXCEEDED, message, retry_after_s=5)


def nobody_starts(model: str) -> RpcFault:
    """The model is scaled to zero, and the scheduler is away, without which no replica is started."""
    message = (
        f"No replica of the model '{model[:SHOWN_CHARS]}' runs now, and the scheduler that has one started is away."
    )
    return RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.NO_CAPACITY, message, retry_after_s=5)


def deadline_exceeded(why: str = "") -> RpcFault:
    """The time allowed for the whole request is over. `why` is a sentence on what it has waited for, if it is known."""
    message = f"The request took longer than it may. {why}".rstrip()
    return RpcFault(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message)
