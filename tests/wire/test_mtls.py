"""The mesh with certificates, as real processes: it works, follows every renewal, and takes no call from anybody else."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from mesh import Mesh, eventually, free_port
from mesh_certificates import ALL_ROLES, Authority, Leaf, SecretMount
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza.keda.v1 import externalscaler_pb2, externalscaler_pb2_grpc
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from trenza_runtime.errors import Reason, from_rpc_error

START_LIMIT_S = 90.0
QUESTION = "What is 7 + 5?"
COMPONENTS = ("scheduler", "chat", "gateway")


class SecuredMesh:
    """A scheduler, a chat replica and a gateway, each with a certificate of its own, and a front door with another."""

    def __init__(self, mesh: Mesh, chat: Mapping[str, str]) -> None:
        self.mesh = mesh
        self.authority = Authority()
        self.mounts = {
            role: SecretMount(mesh.folder / "secrets" / role, self.authority.roles(role), self.authority.pem)
            for role in COMPONENTS
        }
        self.front = SecretMount(mesh.folder / "secrets" / "front", self.authority.issue("localhost"))
        mesh.start_scheduler(**self.mounts["scheduler"].environment)
        mesh.start_chat("chat-0", **self.mounts["chat"].environment, **chat)
        front = {
            "TRENZA_GATEWAY_TLS_CERT_FILE": str(self.front.certificate),
            "TRENZA_GATEWAY_TLS_KEY_FILE": str(self.front.key),
            "TRENZA_GATEWAY_METRICS_PORT": "0",
        }
        mesh.start_gateway(**self.mounts["gateway"].environment, **front)

    @property
    def chat_address(self) -> str:
        return f"127.0.0.1:{self.mesh['chat-0'].ports['grpc_port']}"

    @property
    def url(self) -> str:
        return f"https://localhost:{self.mesh['gateway'].ports['http_port']}"

    def client(self) -> httpx.Client:
        trusting = ssl.create_default_context(cadata=self.authority.pem.decode())
        return httpx.Client(base_url=self.url, verify=trusting, timeout=60, trust_env=False)

    def ask_http(self) -> str:
        body = {"model": "starter-chat", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
        with self.client() as client:
            answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        return str(answer["choices"][0]["message"]["content"])

    def ask_grpc(self) -> str:
        trusting = grpc.ssl_channel_credentials(self.authority.pem)
        with grpc.secure_channel(f"localhost:{self.mesh['gateway'].ports['grpc_port']}", trusting) as channel:
            return answer_of(channel)

    def renew(self, authority: Authority, trusted: bytes) -> None:
        """Gives every process another certificate, and waits until each has taken it."""
        seen = {name: self.renewals(name) for name in self.mesh.processes}
        for role, mount in self.mounts.items():
            mount.put(authority.roles(role), trusted)
        self.front.put(authority.issue("localhost"))
        for name, count in seen.items():
            eventually(lambda name=name, count=count: self.renewals(name) > count, 30)
        eventually(lambda: self.front_door_is_of(authority), 30)  # looked at when somebody connects, once a second

    def front_door_is_of(self, authority: Authority) -> bool:
        """Whether the front door shows a certificate of that authority."""
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        try:
            return httpx.get(f"{self.url}/healthz", verify=trusting, trust_env=False).is_success
        except httpx.ConnectError:
            return False

    def renewals(self, name: str) -> int:
        return self.mesh[name].log.count("the certificate was renewed use=mesh")


def asks(model: str = "starter-chat") -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(
        context=common_pb2.RequestContext(model=model),
        messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, content=[chat_pb2.ContentPart(text=QUESTION)])],
        options=chat_pb2.GenerationOptions(temperature=0.0),
    )


def answer_of(channel: grpc.Channel) -> str:
    call = chat_pb2_grpc.ChatServiceStub(channel).Chat(asks(), timeout=60)
    return "".join(delta.content for message in call for delta in message.deltas)


def secured(address: str, role: str, leaf: Leaf | None, authorities: bytes) -> grpc.Channel:
    """A channel that expects the role, and shows the certificate."""
    credentials = (
        grpc.ssl_channel_credentials(authorities, leaf.key, leaf.certificate)
        if leaf
        else grpc.ssl_channel_credentials(authorities)
    )
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", f"{role}.trenza.mesh")])


@pytest.fixture
def mesh(own_mesh: Mesh, slow_model: Mapping[str, str]) -> SecuredMesh:
    return SecuredMesh(own_mesh, slow_model)


class Listener:
    """Reads a stream that does not end by itself in a thread, until it is told to stop."""

    def __init__(self, mesh: SecuredMesh) -> None:
        self.chunks = 0
        self.error: Exception | None = None
        self._mesh = mesh
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        body = {
            "model": "slow",
            "messages": [{"role": "user", "content": "Go on."}],
            "stream": True,
            "ignore_eos": True,
            "max_tokens": 4000,
        }
        try:
            with self._mesh.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                for line in response.iter_lines():
                    self.chunks += "delta" in line
                    assert '"error"' not in line, line
                    if self._enough.is_set():
                        return
            raise AssertionError("the stream ended by itself")
        except Exception as error:
            self.error = error

    def flows(self) -> bool:
        """Whether new pieces arrive."""
        before = self.chunks
        eventually(lambda: self.chunks > before or self.error, 20)
        return self.error is None

    def stop(self) -> None:
        self._enough.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_every_certificate_changes_under_running_streams(mesh: SecuredMesh) -> None:
    eventually(lambda: "12" in mesh.ask_http(), START_LIMIT_S)
    assert "12" in mesh.ask_grpc()
    for name in COMPONENTS:
        process = mesh.mesh["chat-0" if name == "chat" else name]
        assert "mTLS is ON" in process.log
    listener = Listener(mesh)
    eventually(lambda: listener.chunks > 2 or listener.error, 60)
    assert listener.flows(), listener.error
    old, new = mesh.authority, Authority("the successor")
    mesh.renew(old, old.pem + new.pem)
    assert "12" in mesh.ask_grpc()
    mesh.authority = new  # clients of the front door have to trust what it shows from now on
    mesh.renew(new, old.pem + new.pem)
    assert "12" in mesh.ask_http()
    mesh.renew(new, new.pem)
    assert "12" in mesh.ask_http()
    assert "12" in mesh.ask_grpc()
    assert listener.flows(), listener.error
    listener.stop()
    assert listener.error is None
    for address, role in ((mesh.mesh.scheduler_address, "scheduler"), (mesh.chat_address, "chat")):
        with secured(address, role, old.roles("operator"), old.pem + new.pem) as channel:
            assert snapshot_or_code(channel, role) is grpc.StatusCode.UNAVAILABLE
    assert "scheduler away" not in mesh.mesh["gateway"].log
    eventually(lambda: mesh.mesh["gateway"].log.count("scheduler joined") == 4)
    assert "does not hear" not in mesh.mesh["chat-0"].log
    figures = mesh.mesh["gateway"].metrics()
    assert figures["trenza_gateway_scheduler_up"] == 1
    assert figures['trenza_tls_certificate_expires_timestamp_seconds{use="mesh"}'] > time.time()


def snapshot_or_code(channel: grpc.Channel, role: str) -> Any:
    """What the one call that an operator may make at a component brings, or its status code."""
    try:
        if role == "chat":
            return answer_of(channel)
        stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        return stub.GetSnapshot(scheduler_pb2.GetSnapshotRequest(), timeout=20).snapshot
    except grpc.RpcError as error:
        return error.code()


def test_nobody_else_gets_in(mesh: SecuredMesh) -> None:
    eventually(lambda: "12" in mesh.ask_http(), START_LIMIT_S)
    own, foreign = mesh.authority, Authority("a stranger")
    unavailable, denied = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED
    for address, role in ((mesh.mesh.scheduler_address, "scheduler"), (mesh.chat_address, "chat")):
        for leaf, expected in (
            (own.roles("operator"), None),
            (own.roles("gateway"), None),
            (None, unavailable),
            (foreign.roles("gateway"), unavailable),
            (own.roles("gateway", expired=True), unavailable),
            (own.roles("chat"), denied),
            (own.issue("gateway.example"), denied),
        ):
            with secured(address, role, leaf, own.pem) as channel:
                found = snapshot_or_code(channel, role)
                assert found is expected if expected else not isinstance(found, grpc.StatusCode), (role, found)
        with grpc.insecure_channel(address) as channel:
            assert snapshot_or_code(channel, role) is unavailable
        with secured(address, "images", own.roles("gateway"), own.pem) as channel:
            assert snapshot_or_code(channel, role) is unavailable, "a caller knows whom it wants to call"


@pytest.mark.parametrize(
    ("role", "modality", "heard"),
    [
        ("audio", common_pb2.MODALITY_AUDIO, True),
        ("audio", common_pb2.MODALITY_CHAT, False),
        ("gateway", common_pb2.MODALITY_CHAT, False),
    ],
)
def test_a_replica_beats_for_its_own_modality(
    own_mesh: Mesh, role: str, modality: common_pb2.Modality.ValueType, heard: bool
) -> None:
    authority = Authority()
    mount = SecretMount(own_mesh.folder / "scheduler", authority.roles("scheduler"), authority.pem)
    own_mesh.start_scheduler(**mount.environment)
    state = scheduler_pb2.ReplicaState(replica_id="r", generation=1, modality=modality, address="127.0.0.1:1")
    with secured(own_mesh.scheduler_address, "scheduler", authority.roles(role), authority.pem) as channel:
        beats = iter([scheduler_pb2.HeartbeatRequest(state=state, sequence=1)])
        call = scheduler_pb2_grpc.SchedulerServiceStub(channel).Heartbeat(beats, timeout=20)
        if heard:
            assert next(call).acknowledged_sequence == 1
            return
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        fault = from_rpc_error(refused.value)  # type: ignore[arg-type]  # it has the same methods
        assert (fault.code, fault.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.PEER_NOT_ALLOWED)


def test_keda_may_ask_for_demand_and_for_nothing_else(own_mesh: Mesh) -> None:
    authority = Authority()
    mount = SecretMount(own_mesh.folder / "scheduler", authority.roles("scheduler"), authority.pem)
    own_mesh.start_scheduler(**mount.environment)
    asked = externalscaler_pb2.ScaledObjectRef(
        name="pool", namespace="test", scaler_metadata={"modality": "chat", "model": "m", "targetSlots": "4"}
    )
    for role, allowed in (("keda", True), ("gateway", False), ("operator", False)):
        with secured(own_mesh.scheduler_address, "scheduler", authority.roles(role), authority.pem) as channel:
            scaler = externalscaler_pb2_grpc.ExternalScalerStub(channel)
            denied = False
            try:
                scaler.GetMetricSpec(asked, timeout=20)
            except grpc.RpcError as error:
                denied = error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert denied is not allowed
            if role == "keda":
                assert snapshot_or_code(channel, "scheduler") is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("role", ["scheduler", "chat", "gateway"])
def test_a_process_whose_certificate_is_of_no_use_does_not_start(tmp_path: Path, role: str) -> None:
    authority = Authority()
    mount = SecretMount(tmp_path / "secret", authority.roles(role, expired=True), authority.pem)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRENZA_")}
    ports = {f"TRENZA_{role.upper()}_{port}": "0" for port in ("GRPC_PORT", "HTTP_PORT")}
    ended = subprocess.run(
        [sys.executable, "-m", f"trenza_{role}"],
        env={**inherited, **mount.environment, **ports},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: TRENZA_TLS_CERT_FILE")
    assert "expired" in line


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, Authority]]:
    """`trenza up` with one certificate for all, inside and at the front door."""
    authority = Authority()
    names = [*(f"{role}.trenza.mesh" for role in ALL_ROLES), "localhost"]
    mount = SecretMount(tmp_path / "secret", authority.issue(*names), authority.pem)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRENZA_")}
    variables = {
        "TRENZA_GATEWAY_HTTP_PORT": str(free_port()),
        "TRENZA_GATEWAY_GRPC_PORT": "0",
        "TRENZA_SCHEDULER_GRPC_PORT": str(free_port()),
        "TRENZA_MODALITIES": "chat",
        "TRENZA_GATEWAY_TLS_CERT_FILE": str(mount.certificate),
        "TRENZA_GATEWAY_TLS_KEY_FILE": str(mount.key),
    }
    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "trenza_local", "--state", str(tmp_path / "state")],
            env={**inherited, **variables, **mount.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    yield process, printed, authority
    process.send_signal(signal.SIGINT)
    process.wait(40)


def test_the_launcher_passes_certificates_on(launched: tuple[subprocess.Popen[bytes], Path, Authority]) -> None:
    process, printed, authority = launched
    eventually(lambda: process.poll() is not None or "Ctrl-C stops everything" in printed.read_text(), START_LIMIT_S)
    text = printed.read_text()
    assert process.poll() is None, text
    assert "starter-chat (ready)" in text, "the launcher asks the scheduler with the same certificate"
    (base,) = [line.split()[-1] for line in text.splitlines() if "OpenAI API" in line]
    assert base.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    body = {"model": "starter-chat", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    address = base.replace("127.0.0.1", "localhost")
    answer = httpx.post(f"{address}/chat/completions", json=body, verify=trusting, timeout=60)
    assert "12" in answer.json()["choices"][0]["message"]["content"]
