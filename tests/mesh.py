"""A real mesh for tests: the project's own processes on ephemeral loopback ports, each of which a test may kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc

REPOSITORY = Path(__file__).resolve().parent.parent
STARTER_MODELS = REPOSITORY / "models" / "starter"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0


def free_port() -> int:
    """A port that was free a moment ago, for processes that must come back on the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], limit_s: float = 15.0, every_s: float = 0.05) -> Any:
    """Waits until `condition` returns something true and returns that; fails the test at the limit."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {getattr(condition, '__name__', condition)}")
        time.sleep(every_s)


@dataclass
class Process:
    """One process of the mesh: how it was started, so that it can be started again, and where it listens."""

    name: str
    module: str
    environment: Mapping[str, str]
    folder: Path
    popen: subprocess.Popen[bytes]
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def alive(self) -> bool:
        return self.popen.poll() is None

    def workers(self, model: str) -> list[psutil.Process]:
        """The worker processes that run a model for this service."""
        return [child for child in psutil.Process(self.popen.pid).children() if model in child.cmdline()]

    def kill(self) -> None:
        """kill -9: no goodbye, no cleaning up."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(STOP_LIMIT_S)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(STOP_LIMIT_S)

    def metrics(self) -> dict[str, float]:
        """The process's Prometheus samples by `name{labels}`."""
        port = self.ports.get("metrics_port") or self.ports["http_port"]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).raise_for_status().text
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}


class Mesh:
    """Scheduler, replicas and a gateway. `start` brings up the usual set; tests may add, kill and restart single processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.scheduler_port = free_port()
        self.heartbeat_interval_ms = 500

    def start(
        self, replicas: int = 1, model: str = "starter-chat", chat: Mapping[str, str] | None = None, **gateway: str
    ) -> Mesh:
        """Brings up the usual set and waits until `model` is loaded on every replica."""
        self.start_scheduler()
        for index in range(replicas):
            self.start_chat(f"chat-{index}", wait=False, **(chat or {}))
        self.start_gateway(wait=False, **gateway)
        for process in self.processes.values():
            self._await_ready(process)
        self.await_model(model, replicas)
        return self

    def start_scheduler(self, **environment: str) -> Process:
        environment = {
            "TRENZA_SCHEDULER_GRPC_PORT": str(self.scheduler_port),
            "TRENZA_SCHEDULER_HEARTBEAT_INTERVAL_MS": str(self.heartbeat_interval_ms),
            **environment,
        }
        return self._spawn("scheduler", "trenza_scheduler", environment, wait=True)

    def start_chat(self, name: str, wait: bool = True, **environment: str) -> Process:
        return self.start_replica("chat", name, wait, **environment)

    def start_replica(self, modality: str, name: str, wait: bool = True, **environment: str) -> Process:
        """A replica of any modality; `environment` are whole names of variables."""
        settings = {
            "GRPC_PORT": "0",
            "REPLICA_ID": name,
            "THREADS": "1",  # several replicas share few cores, and threads that wait for one another spin
            "MODELS_ROOT": str(STARTER_MODELS),
            "SCHEDULER_ADDRESS": f"127.0.0.1:{self.scheduler_port}",
        }
        usual = {f"TRENZA_{modality.upper()}_{key}": value for key, value in settings.items()}
        return self._spawn(name, f"trenza_{modality}", {**usual, **environment}, wait)

    def start_gateway(self, name: str = "gateway", wait: bool = True, **environment: str) -> Process:
        environment = {
            "TRENZA_GATEWAY_HTTP_PORT": "0",
            "TRENZA_GATEWAY_GRPC_PORT": "0",
            "TRENZA_GATEWAY_SCHEDULER_ADDRESS": f"127.0.0.1:{self.scheduler_port}",
            **environment,
        }
        return self._spawn(name, "trenza_gateway", environment, wait)

    def restart(self, name: str) -> Process:
        """Starts a dead process again as it was."""
        old = self.processes[name]
        assert not old.alive()
        return self._spawn(name, old.module, old.environment, wait=True)

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.processes['gateway'].ports['http_port']}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.processes['gateway'].ports['grpc_port']}"

    @property
    def scheduler_address(self) -> str:
        return f"127.0.0.1:{self.scheduler_port}"

    def snapshot(self) -> scheduler_pb2.GetSnapshotResponse:
        """The fleet as the scheduler sees it."""
        with grpc.insecure_channel(self.scheduler_address) as channel:
            stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
            return stub.GetSnapshot(scheduler_pb2.GetSnapshotRequest(), timeout=10)

    def await_model(self, name: str, replicas: int = 1) -> None:
        """Waits until that many live replicas have the model loaded and the gateway is ready."""

        def loaded() -> bool:
            views = self.snapshot().snapshot.replicas
            live = [view for view in views if view.health == scheduler_pb2.REPLICA_HEALTH_LIVE]
            having = [
                view
                for view in live
                for model in view.state.models
                if model.model.name == name and model.model.load_state == common_pb2.LOAD_STATE_LOADED
            ]
            return len(having) >= replicas and httpx.get(f"{self.http_url}/readyz").status_code == 200

        eventually(loaded, START_LIMIT_S)

    def await_settled(self) -> None:
        """Waits until the gateway knows that the scheduler has heard every replica; before, no model is surely unknown."""
        body = {"model": "no-such-model", "messages": [{"role": "user", "content": "Hello!"}]}
        eventually(lambda: httpx.post(f"{self.http_url}/v1/chat/completions", json=body).status_code == 404)

    def close(self) -> None:
        for process in reversed(list(self.processes.values())):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.stop()
            if process.alive():
                process.kill()

    def _spawn(self, name: str, module: str, environment: Mapping[str, str], wait: bool) -> Process:
        ready_file = self.folder / f"{name}.ready"
        ready_file.unlink(missing_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRENZA_")}
        with (self.folder / f"{name}.log").open("ab") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**inherited, "TRENZA_LOG_LEVEL": "info", **environment, "TRENZA_READY_FILE": str(ready_file)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process = Process(name, module, environment, self.folder, popen)
        self.processes[name] = process
        if wait:
            self._await_ready(process)
        return process

    def _await_ready(self, process: Process) -> None:
        ready_file = self.folder / f"{process.name}.ready"

        def ready() -> bool:
            assert process.alive(), f"{process.name} ended with {process.popen.returncode}:\n{process.log[-3000:]}"
            return ready_file.exists()

        eventually(ready, START_LIMIT_S)
        process.ports = json.loads(ready_file.read_text())


@contextlib.contextmanager
def running_mesh(folder: Path, **options: Any) -> Iterator[Mesh]:
    """A started mesh, stopped at the end whatever happens."""
    mesh = Mesh(folder)
    try:
        yield mesh.start(**options)
    finally:
        mesh.close()
