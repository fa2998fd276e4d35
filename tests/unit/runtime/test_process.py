"""The life of a process, seen from outside: ready files, signals, exit codes, logs, metrics."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest
from trenza_runtime.lifecycle import StartError
from trenza_runtime.telemetry import logs
from trenza_runtime.telemetry.metrics import serve_metrics

PROGRAM = """
import asyncio, logging, os, sys
from trenza_runtime import lifecycle
from trenza_runtime.telemetry import logs

async def main(stopping):
    lifecycle.announce_ready(grpc_port=1234, metrics_port=5)
    {body}

logs.configure("toy")
lifecycle.run(main)
"""


def start(body: str, ready: Path, **environment: str) -> subprocess.Popen[str]:
    program = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TRENZA_READY_FILE": str(ready), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_ready(ready: Path) -> None:
    deadline_s = time.monotonic() + 20
    while not ready.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready.json"
    process = start("await stopping.wait()\nlogging.getLogger('toy').info('drained')", ready)
    wait_until_ready(ready)
    assert json.loads(ready.read_text()) == {"grpc_port": 1234, "metrics_port": 5}
    process.send_signal(number)
    _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "ready grpc_port=1234 metrics_port=5" in log
    assert "drained" in log


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    process = start("await stopping.wait()\nprint('stopping', file=sys.stderr)\nawait asyncio.sleep(60)", ready)
    wait_until_ready(ready)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    assert process.returncode == 1


def test_a_process_that_cannot_start_says_so_in_one_line(tmp_path: Path) -> None:
    process = start("raise lifecycle.StartError('cannot listen on port 1')", tmp_path / "ready.json")
    _, log = process.communicate(timeout=10)
    assert process.returncode == 2
    assert log.splitlines()[-1] == "error: cannot listen on port 1"
    assert "Traceback" not in log


def test_a_crash_is_logged_with_its_traceback(tmp_path: Path) -> None:
    process = start("1 / 0", tmp_path / "ready.json", TRENZA_LOG_FORMAT="json")
    _, log = process.communicate(timeout=10)
    assert process.returncode == 1
    last = json.loads(log.splitlines()[-1])
    assert (last["event"], last["level"], last["component"]) == ("crashed", "error", "toy")
    assert "ZeroDivisionError" in last["exception"]


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("trenza.x", logging.INFO, "", 0, message, (), None)
    vars(made).update(fields)
    return made


def test_json_lines_carry_fields_and_the_request_id() -> None:
    formatter = logs.JsonFormatter("chat")
    with logs.bind_request_id("abc"):
        line = json.loads(formatter.format(record("loaded", model="m", seconds=1.5, path=Path("/x"))))
    assert {**line, "time": ""} == {
        "time": "",
        "level": "info",
        "component": "chat",
        "logger": "trenza.x",
        "event": "loaded",
        "model": "m",
        "seconds": 1.5,
        "path": "/x",
        "request_id": "abc",
    }
    assert "request_id" not in json.loads(formatter.format(record("loaded")))


def test_lines_for_people_are_single_lines() -> None:
    line = logs.HumanFormatter("chat").format(record("two\nlines", reason="a\nb"))
    assert line.count("\n") == 0
    assert line.endswith("chat two\\nlines reason=a\\nb")


@pytest.mark.parametrize(("name", "value"), [("TRENZA_LOG_LEVEL", "loud"), ("TRENZA_LOG_FORMAT", "xml")])
def test_wrong_log_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        logs.configure("toy")


def test_metrics_are_served_on_a_port_of_their_own() -> None:
    server = serve_metrics("127.0.0.1", 0)
    assert server is not None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as response:
            assert b"# TYPE trenza_rpc_requests_total counter" in response.read()
        with pytest.raises(StartError, match=str(server.port)):
            serve_metrics("127.0.0.1", server.port)
    finally:
        server.close()
    assert serve_metrics("127.0.0.1", -1) is None
