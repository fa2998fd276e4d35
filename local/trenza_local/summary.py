"""What a person reads when the mesh is up: what listens where, which models there are, what to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trenza_local.components import Component, reachable

SAMPLE_QUESTION = "What is 7 + 5?"
SAMPLE_SENTENCE = "Draw three blue squares, please."
SAMPLE_FILE = "speech.mp3"
SAMPLE_PICTURE = "a blue star on a yellow background"
SAMPLE_SIGHT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////cHh7/Hx2WAAAAeElEQVR42sXQsQ2DUBRD0YNB"
    "Cl0YgWxCNsqIfxRGoKRAkAIloaBKgyvr+tnF42rdZwSv2w6qbSuE0BMaOkJLS+hoDgdhoKKmoCr5zEcFgwP5mkB/Gv1nVhhPow3Kj9QYeAqFjTCyEiYW"
    "wsxMWJgIK+NeNzwOP7xEb5q2F+9MM1J5AAAAAElFTkSuQmCC"
)
"""A red circle on white."""
VOICE, HEARER = "starter-voice", "starter-whisper"


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
        "http_port": f"HTTP {component.scheme}://{{}}:{{}}",
        "grpc_port": "gRPC {}:{}",
        "metrics_port": "metrics http://{}:{}/metrics",
        "health_port": "health {}:{}",
    }
    return "   ".join(text.format(host, ports[key]) for key, text in shown.items() if key in ports)


def summary(
    gateway: Component, ports: Mapping[str, int], models: Sequence[Model] | None, logs: Path, keys_needed: bool
) -> str:
    """The start-up summary, with curl lines that work."""
    host = reachable(gateway.host)
    url = f"{gateway.scheme}://{host}:{ports['http_port']}"
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
        [
            *("Trenza is ready.", "", *lines, "", "Try it:", ""),
            *(f"  {command}" for command in commands(url, models or (), keys_needed)),
            "",
        ]
    )


def commands(url: str, models: Sequence[Model], keys_needed: bool) -> list[str]:
    """Commands that ask each modality's model something; without any, a command that lists the models."""
    key = ["-H", "authorization: Bearer $TRENZA_API_KEY"] if keys_needed else []
    asked = [
        _shell(["curl", f"{url}{path}", *key, *words])
        for modality, path, words_of in _SAMPLES
        if (words := words_of(_usual(modality, models)))
    ]
    return asked or [_shell(["curl", f"{url}/v1/models", *key])]


def _usual(modality: str, models: Sequence[Model]) -> Mapping[str, str]:
    """A model to ask of each kind that the modality has, the starter model where it is there."""
    names = sorted(model.name for model in models if model.modality == modality)
    if modality == "audio":
        return {name: name for name in names if name in (VOICE, HEARER)}
    return {modality: min(names, key=lambda name: not name.startswith("starter-"))} if names else {}


def _chat(models: Mapping[str, str]) -> list[str]:
    return (
        _json({"model": models["chat"], "messages": [{"role": "user", "content": SAMPLE_QUESTION}]}) if models else []
    )


def _speech(models: Mapping[str, str]) -> list[str]:
    body = {"model": VOICE, "input": SAMPLE_SENTENCE, "voice": "alloy"}
    return [*_json(body), "-o", SAMPLE_FILE] if VOICE in models else []


def _transcript(models: Mapping[str, str]) -> list[str]:
    return ["-F", f"model={HEARER}", "-F", f"file=@{SAMPLE_FILE}"] if {VOICE, HEARER} <= models.keys() else []


def _picture(models: Mapping[str, str]) -> list[str]:
    body = {"model": models.get("images"), "prompt": SAMPLE_PICTURE, "response_format": "url"}
    return _json(body) if models else []


def _sight(models: Mapping[str, str]) -> list[str]:
    asked = {"type": "text", "text": "What is in this picture?"}
    content = [asked, {"type": "image_url", "image_url": {"url": SAMPLE_SIGHT}}]
    return _json({"model": models["vision"], "messages": [{"role": "user", "content": content}]}) if models else []


def _json(body: Mapping[str, object]) -> list[str]:
    return ["-H", "content-type: application/json", "-d", json.dumps(body)]


_SAMPLES: Sequence[tuple[str, str, Callable[[Mapping[str, str]], list[str]]]] = (
    ("chat", "/v1/chat/completions", _chat),
    ("audio", "/v1/audio/speech", _speech),
    ("audio", "/v1/audio/transcriptions", _transcript),
    ("images", "/v1/images/generations", _picture),
    ("vision", "/v1/chat/completions", _sight),
)


def _shell(words: Sequence[str]) -> str:
    """The words as a line to paste; a variable stays one."""
    return " ".join(f'"{word}"' if "$" in word else shlex.quote(word) for word in words)
