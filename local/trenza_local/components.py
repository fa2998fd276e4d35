"""Which processes make up the mesh on this machine, what each needs of the others, and with which settings they run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trenza_local.ports import ConfigurationError, Port

STARTER_MODELS = Path(__file__).resolve().parents[2] / "models" / "starter"
REPLICA_LIMIT = 64
HIGHEST_PORT = 65535
OPTIONAL_PORTS = ("METRICS_PORT", "HEALTH_PORT")
"""Those that a process can do without, as -1."""


@dataclass(frozen=True)
class Kind:
    """A sort of process: the module that runs it, and its ports' settings with the numbers they have by default."""

    module: str
    ports: Mapping[str, int]


KINDS = {
    "scheduler": Kind("trenza_scheduler", {"GRPC_PORT": 9091, "METRICS_PORT": 0, "HEALTH_PORT": -1}),
    "chat": Kind("trenza_chat", {"GRPC_PORT": 0, "METRICS_PORT": 0, "HEALTH_PORT": -1}),
    "audio": Kind("trenza_audio", {"GRPC_PORT": 0, "METRICS_PORT": 0, "HEALTH_PORT": -1}),
    "images": Kind("trenza_images", {"GRPC_PORT": 0, "METRICS_PORT": 0, "HEALTH_PORT": -1}),
    "vision": Kind("trenza_vision", {"GRPC_PORT": 0, "METRICS_PORT": 0, "HEALTH_PORT": -1}),
    "gateway": Kind("trenza_gateway", {"HTTP_PORT": 8080, "GRPC_PORT": 9090, "METRICS_PORT": -1, "HEALTH_PORT": -1}),
}
MODALITIES = ("chat", "audio", "images", "vision")
"""The kinds that serve models."""


@dataclass(frozen=True)
class Component:
    """A process to run: `python -m module` with these variables on top of the launcher's own.

    It starts when all it `needs` are ready, and stops before those and before all it `uses`.
    """

    name: str
    module: str
    host: str = "127.0.0.1"
    ports: tuple[Port, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    scheme: str = "http"
    """How its HTTP port is spoken to."""


def components(environ: Mapping[str, str], installed: Collection[str], cores: int) -> list[Component]:
    """The mesh that the environment asks for; `installed` are the modalities whose services are there.

    Raises ConfigurationError for values that make no sense.
    """
    scheduler = _component(environ, "scheduler")
    port = scheduler.ports[0]
    if port.number == 0:
        raise ConfigurationError(
            f"{port.variable} is 0; the others have to know it, so choose one up to {HIGHEST_PORT}"
        )
    address = f"{reachable(scheduler.host)}:{port.number}"
    services = [
        service
        for modality in _modalities(environ, installed)
        for service in _replicas(environ, modality, address, cores)
    ]
    gateway = _component(
        environ,
        "gateway",
        {"SCHEDULER_ADDRESS": address},
        needs=("scheduler",),
        uses=tuple(service.name for service in services),
    )
    return [scheduler, *services, gateway]


def reachable(host: str) -> str:
    """Where a process that listens on `host` is reached from this machine, as in a URL."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host in ("::", "[::]"):
        return "[::1]"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _replicas(environ: Mapping[str, str], modality: str, scheduler_address: str, cores: int) -> list[Component]:
    prefix = f"TRENZA_{modality.upper()}_"
    count = _number(environ, prefix + "REPLICAS", 1, 0, REPLICA_LIMIT)
    for port in KINDS[modality].ports:
        if count > 1 and _number(environ, prefix + port, 0, -1, HIGHEST_PORT) > 0:
            raise ConfigurationError(
                f"{prefix}{port} is one port for {count} replicas; leave it out, or run one replica"
            )
    defaults = {"SCHEDULER_ADDRESS": scheduler_address, "MODELS_ROOT": str(STARTER_MODELS)}
    if count > 1:
        defaults["THREADS"] = str(max(1, cores // count))
    # Replicas share the environment, so a name of their own is not for the environment to choose.
    names = [f"{modality}-{index}" for index in range(count)]
    return [
        _component(
            {**environ, prefix + "REPLICA_ID": name}, name, {**defaults, "REPLICA_ID": name}, needs=("scheduler",)
        )
        for name in names
    ]


def _component(
    environ: Mapping[str, str],
    name: str,
    settings: Mapping[str, str] | None = None,
    needs: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
) -> Component:
    """A component with these settings where the environment says nothing else."""
    kind_name = name.partition("-")[0]
    kind = KINDS[kind_name]
    prefix = f"TRENZA_{kind_name.upper()}_"
    host = environ.get(prefix + "HOST") or "127.0.0.1"
    ports = {
        prefix + key: _number(environ, prefix + key, number, -1 if key in OPTIONAL_PORTS else 0, HIGHEST_PORT)
        for key, number in kind.ports.items()
    }
    given = {prefix + key: environ.get(prefix + key) or value for key, value in (settings or {}).items()}
    return Component(
        name,
        kind.module,
        host,
        tuple(Port(host, number, variable) for variable, number in ports.items()),
        {**{variable: str(number) for variable, number in ports.items()}, **given},
        needs,
        uses,
        "https" if environ.get(prefix + "TLS_CERT_FILE") else "http",
    )


def _modalities(environ: Mapping[str, str], installed: Collection[str]) -> list[str]:
    wanted = environ.get("TRENZA_MODALITIES", ",".join(installed))
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if name not in installed]
    if unknown:
        raise ConfigurationError(
            f"TRENZA_MODALITIES names {unknown[0]!r}; installed here: {', '.join(installed) or 'none'}"
        )
    return list(dict.fromkeys(names))


def _number(environ: Mapping[str, str], variable: str, default: int, low: int, high: int) -> int:
    text = environ.get(variable) or str(default)
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise ConfigurationError(f"{variable} is {text!r}; it must be a number from {low} to {high}")
    return number
