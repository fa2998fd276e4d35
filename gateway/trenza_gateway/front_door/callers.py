"""Who calls over gRPC, and what of a caller's request context is taken over."""

from __future__ import annotations

from typing import Any

import grpc
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_gateway.auth.access import Access
from trenza_gateway.edge import request_ids

Context = grpc.aio.ServicerContext[Any, Any]

MAX_SESSION_ID_LENGTH = 256

_PRIORITIES = frozenset(common_pb2.PriorityClass.values())


class Callers:
    """Lets callers in."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def tenant(self, context: Context) -> str:
        """On whose account the call runs, by its `authorization` metadata. Raises RpcFault (UNAUTHENTICATED)."""
        tenant = self._access.tenant(_metadata(context, "authorization"))
        if tenant is None:
            message = "Incorrect or missing API key: send `authorization: Bearer <key>`."
            raise RpcFault(grpc.StatusCode.UNAUTHENTICATED, Reason.UNAUTHENTICATED, message)
        return tenant

    def settle(self, context: Context, said: common_pb2.RequestContext, *, model_required: bool = True) -> None:
        """Makes the request's context the gateway's own: unique id, true tenant, no lease. Raises RpcFault."""
        said.tenant = self.tenant(context)
        _, said.request_id = request_ids(said.request_id or _metadata(context, "x-request-id"))
        said.lease_id = ""
        if said.priority not in _PRIORITIES:
            raise _invalid("context.priority", f"{said.priority} is no priority class.")
        if model_required and not said.model:
            raise _invalid("context.model", "No model is named.")
        if len(said.session_id) > MAX_SESSION_ID_LENGTH:
            raise _invalid("context.session_id", f"At most {MAX_SESSION_ID_LENGTH} characters are allowed.")


def _invalid(param: str, message: str) -> RpcFault:
    return RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, {"param": param})


def _metadata(context: Context, key: str) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None
