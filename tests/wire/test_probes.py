"""What probes are told over the life of real processes: before a model is loaded, while they serve, and while they drain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh import STARTER_MODELS, Mesh, Process, eventually
from mesh_certificates import Authority, SecretMount
from trenza.chat.v1 import chat_pb2, chat_pb2_grpc
from trenza.common.v1 import common_pb2
from trenza_runtime.rpc.channel import open_channel


def probed(process: Process) -> str:
    """liveness, startup, readiness: a letter for each, y for SERVING; nothing where nobody answers."""
    letters = ""
    with grpc.insecure_channel(f"127.0.0.1:{process.ports['health_port']}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for name in ("liveness", "startup", "readiness"):
            try:
                status = check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
            except grpc.RpcError:
                return ""
            letters += "y" if status == health_pb2.HealthCheckResponse.SERVING else "n"
    return letters


async def test_a_replica_that_drains_lives_and_is_not_ready(own_mesh: Mesh, slow_model: Mapping[str, str]) -> None:
    replica = own_mesh.start_chat("chat-0", TRENZA_CHAT_HEALTH_PORT="0", **slow_model)
    await asyncio.to_thread(eventually, lambda: probed(replica) == "yyy", 60)
    request = chat_pb2.ChatRequest(
        context=common_pb2.RequestContext(model="slow"),
        messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, content=[chat_pb2.ContentPart(text="Go on.")])],
        options=chat_pb2.GenerationOptions(max_tokens=300, ignore_end=True),
    )
    async with open_channel(f"127.0.0.1:{replica.ports['grpc_port']}") as channel:
        call = chat_pb2_grpc.ChatServiceStub(channel).Chat(request)
        await call.read()
        replica.popen.terminate()
        await asyncio.to_thread(eventually, lambda: probed(replica) == "yyn")
        last = chat_pb2.ChatResponse()
        while isinstance(message := await call.read(), chat_pb2.ChatResponse):
            last = message
        assert last.usage.completion_tokens == 300
    assert await asyncio.to_thread(replica.popen.wait, 30) == 0
    assert probed(replica) == ""


def test_loading_is_not_death_but_a_model_that_cannot_be_loaded_makes_nobody_ready(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    (root / "broken").mkdir(parents=True)
    (root / "starter-chat").symlink_to(STARTER_MODELS / "starter-chat")
    (root / "broken" / "model.gguf").write_bytes(b"nothing")
    (root / "broken" / "model.toml").write_text(
        'name = "broken"\nmodality = "chat"\nengine = "llama"\n[files]\nmodel = "model.gguf"\n'
    )
    replica = own_mesh.start_chat(
        "chat-0",
        TRENZA_CHAT_HEALTH_PORT="0",
        TRENZA_CHAT_MODELS_ROOT=str(root),
        TRENZA_CHAT_PRELOAD="broken,starter-chat",
    )
    eventually(lambda: "model loaded model=starter-chat" in replica.log, 60)
    eventually(lambda: "a model cannot be loaded model=broken" in replica.log, 60)
    assert probed(replica) == "yyn"


@pytest.mark.parametrize("secured", [False, True])
def test_the_scheduler_and_the_gateway(own_mesh: Mesh, secured: bool) -> None:
    authority = Authority()
    environment = {}
    if secured:
        leaf = authority.roles("scheduler", "gateway", "chat")
        environment = SecretMount(own_mesh.folder / "secret", leaf, authority.pem).environment
    scheduler = own_mesh.start_scheduler(TRENZA_SCHEDULER_HEALTH_PORT="0", **environment)
    gateway = own_mesh.start_gateway(
        TRENZA_GATEWAY_HEALTH_PORT="0", TRENZA_GATEWAY_METRICS_PORT="0", TRENZA_GATEWAY_NOTICE_S="3", **environment
    )
    assert probed(scheduler) == "yyy"
    assert probed(gateway) == "yyn", "no replica: as /readyz says"
    assert httpx.get(f"{own_mesh.http_url}/readyz").status_code == 503
    own_mesh.start_chat("chat-0", TRENZA_CHAT_HEALTH_PORT="0", **environment)
    eventually(lambda: probed(gateway) == "yyy", 60)
    assert httpx.get(f"{own_mesh.http_url}/readyz").status_code == 200
    assert "trenza_gateway_scheduler_up" in gateway.metrics()
    gateway.popen.terminate()
    eventually(lambda: probed(gateway) == "yyn")
    assert gateway.popen.wait(30) == 0
    scheduler.popen.terminate()
    assert scheduler.popen.wait(30) == 0
