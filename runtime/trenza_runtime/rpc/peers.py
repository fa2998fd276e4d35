"""Who is at the other end of a connection, by its certificate, and what it may call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import grpc
from trenza.common.v1 import common_pb2

from trenza_runtime.errors import Reason, RpcFault

GATEWAY, OPERATOR, SCHEDULER, KEDA = "gateway", "operator", "scheduler", "keda"
_NAMES_SHOWN = 4

Context = grpc.aio.ServicerContext[Any, Any]
Roles = Mapping[str, Collection[str]]
"""Who may call what: roles by method (`/package.Service/Method`) or by service (`/package.Service/`). What is not here, nobody
may call."""


def identity(role: str) -> str:
    """The DNS name in the certificate of a component, or of another peer with that role."""
    return f"{role}.trenza.mesh"


def modality_role(modality: int) -> str:
    """The role of the service that serves a modality; one that nobody has for a number that stands for none."""
    if modality not in common_pb2.Modality.values():
        return f"modality-{modality}"
    return common_pb2.Modality.Name(common_pb2.Modality.ValueType(modality)).removeprefix("MODALITY_").lower()


def require_role(context: Context, roles: Collection[str]) -> None:
    """Lets the call go on if the peer has one of the roles, or if the connection is not secured, when nobody has any.

    Raises RpcFault PERMISSION_DENIED/PEER_NOT_ALLOWED.
    """
    facts = context.auth_context()
    if b"ssl" not in facts.get("transport_security_type", ()):
        return
    names = [name.decode(errors="replace") for name in facts.get("peer_dns", ())]
    if not {identity(role) for role in roles}.intersection(names):
        shown = ", ".join(names[:_NAMES_SHOWN]) or "without a name"
        message = f"A peer that is {shown} may not call this."
        raise RpcFault(grpc.StatusCode.PERMISSION_DENIED, Reason.PEER_NOT_ALLOWED, message)


def roles_for(method: str, roles: Roles) -> Collection[str]:
    """Who may call the method, whose name is as in HTTP/2: `/package.Service/Method`."""
    if method in roles:
        return roles[method]
    return roles.get(method[: method.rfind("/") + 1], ())
