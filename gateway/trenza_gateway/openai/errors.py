"""OpenAI's error objects, and which one each fault of a replica or refusal of the scheduler becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from trenza_runtime.errors import RpcFault

INVALID_REQUEST = "invalid_request_error"
AUTHENTICATION = "authentication_error"
RATE_LIMIT = "rate_limit_error"
SERVER = "server_error"
TIMEOUT = "timeout"

SHOWN_CHARS = 128
"""As much of what a client sent is shown back to it."""

CLIENT_GONE_STATUS = 499
"""Status under which a request is counted whose client went away; nobody receives it."""


class ApiError(Exception):
    """A request that ends with an OpenAI error object.

    `param` names the offending field as a path (`messages[0].content`), `retry_after_s` becomes the Retry-After header.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self._headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error object, as the body of a response or the payload of an SSE event."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        if self.retry_after_s is None:
            return self._headers
        return {**self._headers, "retry-after": str(max(1, math.ceil(self.retry_after_s)))}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 for a request that is wrong in `param`."""
    return ApiError(400, message, param=param, code=code)


def model_not_found(model: str) -> ApiError:
    """The 404 for a model that no replica knows."""
    return ApiError(404, f"The model '{model[:SHOWN_CHARS]}' does not exist.", code="model_not_found", param="model")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a fault looks like to an OpenAI client; `retry_s` is the Retry-After where the fault itself names none."""

    status: int
    kind: str
    code: str | None
    param: str | None = None
    retry_s: float | None = None


_BY_REASON: Mapping[str, _Shape] = {
    "MODEL_NOT_FOUND": _Shape(404, INVALID_REQUEST, "model_not_found", "model"),
    "CONTEXT_LENGTH_EXCEEDED": _Shape(400, INVALID_REQUEST, "context_length_exceeded"),
    "INVALID_ARGUMENT": _Shape(400, INVALID_REQUEST, None),
    "INVALID_AUDIO": _Shape(400, INVALID_REQUEST, "invalid_audio", "file"),
    "PICTURE_INVALID": _Shape(400, INVALID_REQUEST, "invalid_image"),
    "PICTURES_UNSUPPORTED": _Shape(400, INVALID_REQUEST, "unsupported_content"),
    "FILE_TOO_LARGE": _Shape(413, INVALID_REQUEST, "upload_too_large", "file"),
    "INVALID_GRAMMAR": _Shape(400, INVALID_REQUEST, "invalid_grammar", "response_format"),
    "UNSUPPORTED": _Shape(400, INVALID_REQUEST, "unsupported_value"),
    "QUEUE_FULL": _Shape(429, RATE_LIMIT, "queue_full", retry_s=1),
    "TENANT_LIMIT": _Shape(429, RATE_LIMIT, "tenant_limit", retry_s=1),
    "NO_CAPACITY": _Shape(503, SERVER, "no_capacity", retry_s=5),
    "WAIT_LIMIT_EXCEEDED": _Shape(503, SERVER, "wait_limit_exceeded", retry_s=5),
    "MODEL_LOADING": _Shape(503, SERVER, "model_loading", retry_s=5),
    "MODEL_LOAD_FAILED": _Shape(503, SERVER, "model_load_failed", retry_s=30),
    "DRAINING": _Shape(503, SERVER, "shutting_down", retry_s=1),
    "ENGINE_CRASHED": _Shape(503, SERVER, "engine_crashed", retry_s=1),
    "REPLICA_UNREACHABLE": _Shape(503, SERVER, "replica_unreachable", retry_s=1),
    "PEER_NOT_ALLOWED": _Shape(503, SERVER, "replica_unreachable", retry_s=1),
    "OUT_OF_MEMORY": _Shape(503, SERVER, "out_of_memory"),
    "DEADLINE_EXCEEDED": _Shape(504, TIMEOUT, "timeout"),
    "CANCELLED": _Shape(CLIENT_GONE_STATUS, SERVER, "cancelled"),
    "UNAUTHENTICATED": _Shape(401, AUTHENTICATION, "invalid_api_key"),
}

_BY_STATUS_CODE: Mapping[grpc.StatusCode, _Shape] = {
    grpc.StatusCode.INVALID_ARGUMENT: _BY_REASON["INVALID_ARGUMENT"],
    grpc.StatusCode.OUT_OF_RANGE: _BY_REASON["INVALID_ARGUMENT"],
    grpc.StatusCode.UNIMPLEMENTED: _BY_REASON["UNSUPPORTED"],
    grpc.StatusCode.NOT_FOUND: _Shape(404, INVALID_REQUEST, "not_found"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: _BY_REASON["QUEUE_FULL"],
    grpc.StatusCode.UNAVAILABLE: _BY_REASON["REPLICA_UNREACHABLE"],
    grpc.StatusCode.DEADLINE_EXCEEDED: _BY_REASON["DEADLINE_EXCEEDED"],
    grpc.StatusCode.CANCELLED: _Shape(503, SERVER, "cancelled_upstream", retry_s=1),
}

_INTERNAL = _Shape(500, SERVER, "internal_error")


def error_of_fault(fault: RpcFault, prompt_param: str = "messages") -> ApiError:
    """The OpenAI error that a fault becomes; `prompt_param` is the field that holds the prompt in this API."""
    shape = _BY_REASON.get(fault.reason) or _BY_STATUS_CODE.get(fault.code, _INTERNAL)
    param = fault.details.get("param") or shape.param
    if fault.reason == "CONTEXT_LENGTH_EXCEEDED":
        param = prompt_param
    return ApiError(
        shape.status,
        fault.message or "The request could not be served.",
        kind=shape.kind,
        code=shape.code,
        param=param,
        retry_after_s=fault.retry_after_s or shape.retry_s,
    )
