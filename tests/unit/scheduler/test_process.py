"""The process itself: it starts, says where, stops when told to, and says what is wrong when it cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime.rpc.channel import open_channel


def start(ready_file: Path, **environment: str) -> subprocess.Popen[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRENZA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "trenza_scheduler"],
        env={**inherited, "TRENZA_SCHEDULER_GRPC_PORT": "0", **environment, "TRENZA_READY_FILE": str(ready_file)},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_it_serves_and_stops_at_once_though_streams_are_open(tmp_path: Path) -> None:
    process = start(tmp_path / "ready")
    try:
        end_s = time.monotonic() + 20
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < end_s
            assert process.poll() is None
            await asyncio.sleep(0.05)
        ports = json.loads((tmp_path / "ready").read_text())
        async with open_channel(f"127.0.0.1:{ports['grpc_port']}") as channel, httpx.AsyncClient() as client:
            asked = health_pb2.HealthCheckRequest(service="trenza.scheduler.v1.SchedulerService")
            health = await health_pb2_grpc.HealthStub(channel).Check(asked)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            call = scheduler_pb2_grpc.SchedulerServiceStub(channel).Admit()
            await call.write(scheduler_pb2.AdmitRequest(hello=scheduler_pb2.GatewayHello(gateway_id="g1")))
            assert await call.read() is not grpc.aio.EOF
            page = await client.get(f"http://127.0.0.1:{ports['metrics_port']}/metrics")
            assert "trenza_scheduler_grants_total" in page.text
            begun_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(process.wait, 10) == 0
        assert time.monotonic() - begun_s < 5
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TRENZA_SCHEDULER_QUEUE_LIMIT": "many"}, "TRENZA_SCHEDULER_QUEUE_LIMIT"),
        ({"TRENZA_SCHEDULER_HEARTBEAT_INTERVAL_MS": "1"}, "TRENZA_SCHEDULER_HEARTBEAT_INTERVAL_MS"),
        ({"TRENZA_SCHEDULER_GRPC_PORT": "taken"}, "cannot listen on"),
        ({"TRENZA_SCHEDULER_EXPECTED_MODELS": "chat/a,smell/b:1"}, "'smell/b:1' is not of the form modality/model"),
    ],
)
def test_it_says_in_one_line_why_it_cannot_start(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = str(holder.getsockname()[1])
        changed = {key: taken if value == "taken" else value for key, value in environment.items()}
        process = start(tmp_path / "ready", **changed)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert words in said
    assert "Traceback" not in said
