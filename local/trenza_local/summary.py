"""What a person reads when the mesh is up: what listens where, which models there are, what to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trenza_local.components import Component, reachable

SAMPLE_QUESTION = "What is 7 + 5?"
USUAL_MODEL = "starter-chat"


@dataclass(frozen=True)
class Model:
    """A model on the replica where it is nearest to answering."""

    name: str
    modality: str
    state: str
    settled: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"


def listening(component: Component, ports: Mapping[str, int]) -> str:
    """Where a component listens, as `gRPC 127.0.0.1:9091   metrics http://127.0.0.1:40001/metrics`."""
    host = reachable(component.host)
    shown = {
        "http_port": "HTTP http://{}:{}",
        "grpc_port": "gRPC {}:{}",
        "metrics_port": "metrics http://{}:{}/metrics",
    }
    return "   ".join(text.format(host, ports[key]) for key, text in shown.items() if key in ports)


def summary(
    gateway: Component, ports: Mapping[str, int], models: Sequence[Model] | None, logs: Path, keys_needed: bool
) -> str:
    """The start-up summary, with a curl line that works."""
    host = reachable(gateway.host)
    url = f"http://{host}:{ports['http_port']}"
    if models is None:
        listed = ["no replica has reported yet; `trenza models` asks again"]
    else:
        listed = [str(model) for model in models] or ["none; put one into a folder of the models root"]
    rows = [
        ("OpenAI API", f"{url}/v1"),
        ("API docs", f"{url}/docs"),
        ("gRPC", f"{host}:{ports['grpc_port']}"),
        ("models", listed[0]),
        *(("", line) for line in listed[1:]),
        ("logs", str(logs)),
    ]
    lines = [f"  {name:<12}{value}" for name, value in rows]
    return "\n".join(
        ["Trenza is ready.", "", *lines, "", "Try it:", "", f"  {curl(url, models or (), keys_needed)}", ""]
    )


def curl(url: str, models: Sequence[Model], keys_needed: bool) -> str:
    """A command that asks a chat model something; without one, a command that lists the models."""
    key = ["-H", "authorization: Bearer $TRENZA_API_KEY"] if keys_needed else []
    chat = sorted((model.name for model in models if model.modality == "chat"), key=lambda name: name != USUAL_MODEL)
    if not chat:
        return _shell(["curl", f"{url}/v1/models", *key])
    body = {"model": chat[0], "messages": [{"role": "user", "content": SAMPLE_QUESTION}]}
    content_type = ["-H", "content-type: application/json"]
    return _shell(["curl", f"{url}/v1/chat/completions", *key, *content_type, "-d", json.dumps(body)])


def _shell(words: Sequence[str]) -> str:
    """The words as a line to paste; a variable stays one."""
    return " ".join(f'"{word}"' if "$" in word else shlex.quote(word) for word in words)
