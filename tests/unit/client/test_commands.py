"""The commands that ask a gateway, against a small HTTP server that answers as one."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trenza
from trenza.cli.chat import converse
from trenza.cli.gateway import GatewayApi
from trenza.cli.main import GROUP, main

MODELS = [
    {
        "id": "ears",
        "modality": "audio",
        "capabilities": ["transcription"],
        "state": "loadable",
        "context_length": None,
        "slots": 1,
    },
    {
        "id": "starter-chat",
        "modality": "chat",
        "capabilities": ["chat"],
        "state": "loaded",
        "context_length": 512,
        "slots": 4,
    },
]


class Handler(http.server.BaseHTTPRequestHandler):
    """A gateway with one model that repeats the last message."""

    missing: ClassVar[list[str]] = []
    asked: ClassVar[list[dict[str, Any]]] = []
    key: ClassVar[str | None] = None
    breaks_off: ClassVar[bool] = False

    def do_GET(self) -> None:
        if self.path == "/readyz":
            report = {"status": "not ready" if self.missing else "ready", "missing": self.missing, "scheduler": "up"}
            self._json(503 if self.missing else 200, {**report, "live_replicas": 1, "models": ["starter-chat"]})
        elif self.key is not None and self.headers["authorization"] != f"Bearer {self.key}":
            self._json(401, {"error": {"message": "no"}})
        else:
            self._json(200, {"object": "list", "data": MODELS})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        if body["model"] != "starter-chat":
            self._json(404, {"error": {"message": f"The model '{body['model']}' does not exist."}})
            return
        words = body["messages"][-1]["content"].split()
        self.send_response(200)
        self.end_headers()
        for word in words:
            self._event({"choices": [{"delta": {"content": f"{word} "}}]})
        if self.breaks_off:
            self._event({"error": {"message": "The engine crashed."}})
        else:
            self.wfile.write(b": waiting\n\ndata: [DONE]\n\n")

    def _event(self, payload: Any) -> None:
        self.wfile.write(f"data: {json.dumps(payload)}\n\n".encode())

    def _json(self, status: int, payload: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(payload).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    class Fresh(Handler):
        missing: ClassVar[list[str]] = []
        asked: ClassVar[list[dict[str, Any]]] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TRENZA_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("TRENZA_API_KEY", raising=False)
    yield Fresh
    server.shutdown()
    server.server_close()


def test_models(gateway: type[Handler], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["starter-chat", "chat", "loaded", "512", "4"]
    assert lines[1].split() == ["ears", "audio", "loadable", "-", "1"]


def test_status(gateway: type[Handler], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    gateway.missing = ["no live replica"]
    assert main(["status"]) == 1
    assert "no live replica" in capsys.readouterr().out


def test_one_question(gateway: type[Handler], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "-m", "one two", "-s", "Be brief."]) == 0
    assert capsys.readouterr().out == "one two \n"
    [body] = gateway.asked
    assert (body["model"], body["stream"]) == ("starter-chat", True)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_a_conversation_remembers_and_survives_errors(
    gateway: type[Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    questions = iter(["first", "", "second", "third"])

    def ask(_prompt: str) -> str:
        gateway.breaks_off = len(gateway.asked) == 1
        try:
            return next(questions)
        except StopIteration:
            raise EOFError from None

    converse(GatewayApi(f"{_url()}/v1/"), "starter-chat", [], ask)
    said = [[message["content"] for message in body["messages"]] for body in gateway.asked]
    assert said == [["first"], ["first", "first ", "second"], ["first", "first ", "third"]]
    assert "The engine crashed." in capsys.readouterr().err


def test_errors_are_one_line(gateway: type[Handler], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "gpt-9", "-m", "hi"]) == 1
    assert capsys.readouterr().err == "error: The model 'gpt-9' does not exist.\n"
    assert main(["models", "--url", "http://127.0.0.1:1"]) == 1
    assert "is it running?" in capsys.readouterr().err


def test_keys(gateway: type[Handler], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.key = "secret"
    assert main(["models"]) == 1
    assert "TRENZA_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("TRENZA_API_KEY", "secret")
    assert main(["models"]) == 0


def test_help_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("keys", "models", "status", "chat"):
        assert f"  {name}" in shown
    assert main(["fly"]) == 2
    assert "no command 'fly'" in capsys.readouterr().err
    assert main([]) == 2


def test_every_installed_command_can_be_loaded() -> None:
    for entry in entry_points(group=GROUP):
        assert callable(entry.load()), entry.name


def test_the_namespace_has_no_init() -> None:
    assert getattr(trenza, "__file__", None) is None
    assert not any((Path(folder) / "__init__.py").exists() for folder in trenza.__path__)


def _url() -> str:
    return os.environ["TRENZA_URL"]
