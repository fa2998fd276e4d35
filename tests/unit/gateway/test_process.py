"""The gateway as a process: how it starts, why it does not, how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

LIMIT_S = 30


def start(tmp_path: Path, **settings: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRENZA_")}
    environment |= {
        "TRENZA_GATEWAY_HTTP_PORT": "0",
        "TRENZA_GATEWAY_GRPC_PORT": "0",
        "TRENZA_GATEWAY_SCHEDULER_ADDRESS": "127.0.0.1:1",
        "TRENZA_READY_FILE": str(tmp_path / "ready"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "trenza_gateway"],
        env={**environment, **settings},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ports_of(process: subprocess.Popen[str], tmp_path: Path) -> dict[str, int]:
    end = time.monotonic() + LIMIT_S
    while not (tmp_path / "ready").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return dict(json.loads((tmp_path / "ready").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_start_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    ports = ports_of(process, tmp_path)
    assert set(ports) == {"http_port", "grpc_port"}
    url = f"http://127.0.0.1:{ports['http_port']}"
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 503
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert sum(" ready " in line for line in errors.splitlines()) == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"TRENZA_GATEWAY_HOST": "0.0.0.0"}, "API keys"),
        ({"TRENZA_GATEWAY_API_KEYS_FILE": "/no/such/file"}, "TRENZA_GATEWAY_API_KEYS_FILE"),
        ({"TRENZA_GATEWAY_HTTP_PORT": "eighty"}, "TRENZA_GATEWAY_HTTP_PORT"),
        ({"TRENZA_GATEWAY_TLS_CERT_FILE": "/no/such/file"}, "TRENZA_GATEWAY_TLS_KEY_FILE"),
        (
            {"TRENZA_GATEWAY_TLS_CERT_FILE": "/no/such/file", "TRENZA_GATEWAY_TLS_KEY_FILE": "/no/such/key"},
            "/no/such/file: No such file",
        ),
        ({"TRENZA_TLS_CA_FILE": "/no/such/file"}, "all three or not at all"),
        ({"TRENZA_GATEWAY_HEALTH_PORT": "taken"}, "cannot listen"),
        ({"TRENZA_GATEWAY_METRICS_PORT": "taken"}, "cannot serve metrics"),
        ({"TRENZA_LOG_LEVEL": "loud"}, "TRENZA_LOG_LEVEL"),
        ({"TRENZA_GATEWAY_HTTP_PORT": "taken"}, "TRENZA_GATEWAY_HTTP_PORT"),
        ({"TRENZA_GATEWAY_GRPC_PORT": "taken"}, "cannot listen"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path, settings: dict[str, str], hint: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        process = start(tmp_path, **{name: port if value == "taken" else value for name, value in settings.items()})
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, errors
    assert hint in said[0]
    assert "Traceback" not in errors
