"""A model that is scaled to zero, with real processes: its requests wait, KEDA is told, and what KEDA would start answers them."""

from __future__ import annotations

import json
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
from e2e.load import MODEL, SEVEN_AND_FIVE, ask, client_of
from mesh import Mesh, eventually
from trenza.keda.v1 import externalscaler_pb2, externalscaler_pb2_grpc

EXPECTED = {"TRENZA_SCHEDULER_EXPECTED_MODELS": f"chat/{MODEL}:4"}
DEMAND = f'trenza_scheduler_demand_slots{{modality="chat",model="{MODEL}"}}'
TRIGGER = externalscaler_pb2.ScaledObjectRef(
    name="chat", namespace="default", scaler_metadata={"modality": "chat", "model": MODEL, "targetSlots": "3.2"}
)


def start_without_replicas(mesh: Mesh, **gateway: str) -> None:
    mesh.start_scheduler(**EXPECTED)
    mesh.start_gateway(**{"TRENZA_GATEWAY_SILENCE_S": "0.5", **gateway})
    eventually(lambda: httpx.get(f"{mesh.http_url}/readyz").status_code == 200)


def listed(mesh: Mesh) -> list[str]:
    return [item["id"] for item in httpx.get(f"{mesh.http_url}/v1/models", timeout=10).json()["data"]]


def test_the_first_request_starts_a_replica_and_is_answered_by_it(own_mesh: Mesh) -> None:
    mesh = own_mesh
    start_without_replicas(mesh)
    assert MODEL in listed(mesh)
    eventually(lambda: mesh["scheduler"].metrics().get(DEMAND) == 0, 15)
    told: queue.Queue[bool] = queue.Queue()
    with grpc.insecure_channel(mesh.scheduler_address) as channel, ThreadPoolExecutor(1) as pool:
        stream = externalscaler_pb2_grpc.ExternalScalerStub(channel).StreamIsActive(TRIGGER)
        threading.Thread(target=_listen, args=(stream, told), daemon=True).start()
        assert told.get(timeout=15) is False
        asked = pool.submit(_streamed, mesh)
        assert told.get(timeout=15) is True, "KEDA hears of it at once"
        eventually(lambda: mesh["scheduler"].metrics()[DEMAND] == 1)
        time.sleep(1.5)
        assert not asked.done()
        assert MODEL in listed(mesh)
        mesh.start_chat("chat-0")  # what KEDA has done then
        body = asked.result(timeout=60)
        stream.cancel()
    assert body.startswith(":"), "comments kept the connection alive"
    assert "12" in _text(body)
    assert body.rstrip().endswith("[DONE]")
    assert MODEL in listed(mesh)
    assert mesh["chat-0"].stop() == 0
    eventually(lambda: not mesh.snapshot().snapshot.replicas)
    model = httpx.get(f"{mesh.http_url}/v1/models/{MODEL}").json()
    assert (model["state"], model["slots"]) == ("loadable", 0)
    assert "chat" in model["capabilities"], "what it can do is remembered"
    assert httpx.get(f"{mesh.http_url}/readyz").status_code == 200


def test_nothing_comes_up_in_time(own_mesh: Mesh) -> None:
    mesh = own_mesh
    start_without_replicas(mesh, TRENZA_GATEWAY_QUEUE_WAIT_S="1.5")
    mesh.await_settled()
    body = {"model": MODEL, "messages": SEVEN_AND_FIVE}
    response = httpx.post(f"{mesh.http_url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert f"No replica of the model '{MODEL}' has come up" in response.json()["error"]["message"]
    mesh["scheduler"].kill()
    response = httpx.post(f"{mesh.http_url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


def test_the_whole_requests_limit_is_a_504_that_says_why(own_mesh: Mesh) -> None:
    mesh = own_mesh
    start_without_replicas(mesh, TRENZA_GATEWAY_REQUEST_S="1.5")
    body = {"model": MODEL, "messages": SEVEN_AND_FIVE}
    response = httpx.post(f"{mesh.http_url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 504
    assert f"No replica of the model '{MODEL}' has come up" in response.json()["error"]["message"]


def test_a_rolling_start_from_zero_serves_everybody(own_mesh: Mesh) -> None:
    mesh = own_mesh
    start_without_replicas(mesh)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(_asked, mesh) for _ in range(6)]
        eventually(lambda: mesh["scheduler"].metrics().get(DEMAND) == 6, 20)
        mesh.start_chat("chat-0")
        assert all("12" in one.result(timeout=60) for one in asked)
    eventually(lambda: mesh["scheduler"].metrics()[DEMAND] == 0)


def _asked(mesh: Mesh) -> str:
    with client_of(mesh) as client:
        return ask(client, "What is 7 + 5?")


def _streamed(mesh: Mesh) -> str:
    body = {"model": MODEL, "messages": SEVEN_AND_FIVE, "stream": True, "temperature": 0}
    return httpx.post(f"{mesh.http_url}/v1/chat/completions", json=body, timeout=90).raise_for_status().text


def _text(body: str) -> str:
    """What the deltas of a stream say."""
    chunks = [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def _listen(stream: Any, told: queue.Queue[bool]) -> None:
    try:
        for response in stream:
            told.put(response.result)
    except grpc.RpcError:
        pass
