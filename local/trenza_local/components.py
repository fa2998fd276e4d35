"""Which processes make up the mesh on this machine, in the order they start, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STARTER_MODELS = Path(__file__).resolve().parents[2] / "models" / "starter"
MODEL_SERVICES = {"chat": "trenza_chat"}
"""The module of each modality's service."""
MAX_REPLICAS = 64


class ConfigurationError(Exception):
    """The mesh cannot be started as it is configured; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Port:
    """A port that must be free, and the variable that changes it."""

    host: str
    number: int
    variable: str


@dataclass(frozen=True)
class Component:
    """A process to run: `python -m module` with these variables on top of the launcher's own."""

    name: str
    module: str
    environment: Mapping[str, str]
    ports: tuple[Port, ...] = ()


def components(environ: Mapping[str, str]) -> list[Component]:
    """The mesh that the environment asks for, in the order of starting.

    Raises ConfigurationError for values that make no sense.
    """
    scheduler_port = _number(environ, "TRENZA_SCHEDULER_GRPC_PORT", 9091, 1, 65535)
    scheduler_host = environ.get("TRENZA_SCHEDULER_HOST", "127.0.0.1")
    scheduler_address = f"{_reachable(scheduler_host)}:{scheduler_port}"
    scheduler = Component(
        "scheduler",
        "trenza_scheduler",
        {"TRENZA_SCHEDULER_GRPC_PORT": str(scheduler_port)},
        (Port(scheduler_host, scheduler_port, "TRENZA_SCHEDULER_GRPC_PORT"),),
    )
    services = [
        _replica(environ, modality, index, scheduler_address)
        for modality in _modalities(environ)
        for index in range(_number(environ, f"TRENZA_{modality.upper()}_REPLICAS", 1, 0, MAX_REPLICAS))
    ]
    return [scheduler, *services, _gateway(environ, scheduler_address)]


def _replica(environ: Mapping[str, str], modality: str, index: int, scheduler_address: str) -> Component:
    prefix = f"TRENZA_{modality.upper()}_"
    defaults = {"MODELS_ROOT": str(STARTER_MODELS), "SCHEDULER_ADDRESS": scheduler_address}
    given = {prefix + key: environ.get(prefix + key, value) for key, value in defaults.items()}
    # Replicas share their settings, so ports of their own and a name each are not for the environment to choose.
    own = {"REPLICA_ID": f"{modality}-{index}", "GRPC_PORT": "0", "METRICS_PORT": "0"}
    return Component(
        f"{modality}-{index}", MODEL_SERVICES[modality], {**given, **{prefix + key: value for key, value in own.items()}}
    )


def _gateway(environ: Mapping[str, str], scheduler_address: str) -> Component:
    host = environ.get("TRENZA_GATEWAY_HOST", "127.0.0.1")
    http = _number(environ, "TRENZA_GATEWAY_HTTP_PORT", 8080, 0, 65535)
    grpc = _number(environ, "TRENZA_GATEWAY_GRPC_PORT", 9090, 0, 65535)
    address = environ.get("TRENZA_GATEWAY_SCHEDULER_ADDRESS", scheduler_address)
    return Component(
        "gateway",
        "trenza_gateway",
        {"TRENZA_GATEWAY_SCHEDULER_ADDRESS": address},
        (Port(host, http, "TRENZA_GATEWAY_HTTP_PORT"), Port(host, grpc, "TRENZA_GATEWAY_GRPC_PORT")),
    )


def _modalities(environ: Mapping[str, str]) -> list[str]:
    wanted = environ.get("TRENZA_MODALITIES", ",".join(MODEL_SERVICES))
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if name not in MODEL_SERVICES]
    if unknown:
        known = ", ".join(MODEL_SERVICES)
        raise ConfigurationError(f"TRENZA_MODALITIES names {unknown[0]!r}; there is {known}")
    return list(dict.fromkeys(names))


def _number(environ: Mapping[str, str], variable: str, default: int, low: int, high: int) -> int:
    text = environ.get(variable, "") or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ConfigurationError(f"{variable} is {text!r}; it must be a number from {low} to {high}")
    return int(text)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "[::]") else host
