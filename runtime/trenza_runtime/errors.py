"""Failures as canonical gRPC codes with a machine-readable reason (AIP-193), on both ends of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "trenza"
_MAX_MESSAGE_BYTES = 1000
_MAX_DETAILS = 8
_MAX_DETAIL_BYTES = 128
"""A status travels as HTTP/2 headers, the message in two of them, once with three bytes for each that is not ASCII and once, like
the details, in base64. Peers refuse more than 16 KiB of headers together, and from 8 KiB on the more of them at random."""


class Reason(StrEnum):
    """Every reason that a Trenza process gives; the value is `google.rpc.ErrorInfo.reason`."""

    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_LOADING = "MODEL_LOADING"
    MODEL_LOAD_FAILED = "MODEL_LOAD_FAILED"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_AUDIO = "INVALID_AUDIO"
    PICTURE_INVALID = "PICTURE_INVALID"
    PICTURES_UNSUPPORTED = "PICTURES_UNSUPPORTED"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    INVALID_GRAMMAR = "INVALID_GRAMMAR"
    UNSUPPORTED = "UNSUPPORTED"
    QUEUE_FULL = "QUEUE_FULL"
    NO_CAPACITY = "NO_CAPACITY"
    WAIT_LIMIT_EXCEEDED = "WAIT_LIMIT_EXCEEDED"
    DRAINING = "DRAINING"
    ENGINE_CRASHED = "ENGINE_CRASHED"
    REPLICA_UNREACHABLE = "REPLICA_UNREACHABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PEER_NOT_ALLOWED = "PEER_NOT_ALLOWED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    REQUEST_NOT_FOUND = "REQUEST_NOT_FOUND"
    INTERNAL = "INTERNAL"


class RpcFault(Exception):
    """A request that ends with an error its caller can act on.

    `reason` is one of `Reason` or another UPPER_SNAKE_CASE word; `details` become `ErrorInfo.metadata`; `retry_after_s`
    becomes `RetryInfo`, in seconds, None where trying again makes no sense or nothing is known about it.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        details: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = str(reason)
        self.message = message
        self.details: Mapping[str, str] = dict(details or {})
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return f"RpcFault({self.code.name}, {self.reason}, {self.message!r})"


async def abort(context: grpc.aio.ServicerContext[Any, Any], fault: RpcFault) -> NoReturn:
    """Ends a call with the fault as a rich status. Never returns."""
    status = rpc_status.to_status(_to_status(fault))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort returned")


def from_rpc_error(error: grpc.aio.AioRpcError) -> RpcFault:
    """The fault that the other side meant. Where it gave no reason (a proxy, a dead peer), the code's name is the reason."""
    reason, details, retry_after_s = error.code().name, {}, None
    for detail in _details_of(error):
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, details = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return RpcFault(error.code(), reason, error.details() or error.code().name, details, retry_after_s)


def _to_status(fault: RpcFault) -> status_pb2.Status:
    details = {
        _cut(key, _MAX_DETAIL_BYTES): _cut(value, _MAX_DETAIL_BYTES)
        for key, value in list(fault.details.items())[:_MAX_DETAILS]
    }
    info = error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=details)
    packed = [_pack(info)]
    if fault.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(fault.retry_after_s * 1000))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    message = _cut(fault.message, _MAX_MESSAGE_BYTES)
    return status_pb2.Status(code=fault.code.value[0], message=message, details=packed)


def _cut(text: str, limit_bytes: int) -> str:
    """The text up to that many bytes; half a character at the cut, and what is no valid text at all, is left out."""
    return text.encode(errors="ignore")[:limit_bytes].decode(errors="ignore")


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _details_of(error: grpc.aio.AioRpcError) -> list[any_pb2.Any]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status()
            try:
                status.ParseFromString(value if isinstance(value, bytes) else value.encode("latin-1"))
            except Exception:  # whatever a stranger puts there must not hide the error itself
                return []
            return list(status.details)
    return []
