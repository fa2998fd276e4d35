"""Demand scales pools: the mesh's own scheduler, real Prometheus, prometheus-adapter and HPA controller, and real replicas."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from cluster.lab.cluster import Cluster, Object, condition_of
from cluster.lab.monitoring import VALUES, Monitoring, monitored
from cluster.lab.running import ANSWER_LIMIT_S, MODEL, Load, RunningMesh, running_mesh
from cluster.lab.services import end_tasks
from mesh import eventually

OTHER_MODEL = "other-model"
CHAT, OTHER = "trenza-pool-chat", "trenza-pool-chat-two"
FAST_DOWN: Object = {
    "minReplicas": 1,
    "maxReplicas": 3,
    "scaleDownStabilizationSeconds": 4,
    "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}},
}
"""The chart's behaviour, but that going down takes seconds instead of minutes."""
SCALED: Object = {
    "autoscaling": {"mode": "hpa"},
    "gateway": {"replicas": 1},
    "pools": {
        "chat": {"autoscaling": FAST_DOWN},
        # Its pods are only pretended, so that nobody takes what is asked of its model.
        "chat-two": {
            "modality": "chat",
            "models": {OTHER_MODEL: {"slots": 4}},
            "storage": {"type": "image", "image": {"reference": "models/other:1"}},
            "autoscaling": FAST_DOWN,
        },
    },
}


@pytest.fixture(scope="module")
def monitoring(lab: Cluster) -> Iterator[Monitoring]:
    with running_mesh(lab, "scaled", VALUES, SCALED) as mesh, monitored(mesh) as started:
        eventually(lambda: started.demand(MODEL) and started.demand(OTHER_MODEL), 90, every_s=0.5)
        yield started


def test_every_model_has_a_series_of_its_own(monitoring: Monitoring) -> None:
    """The adapter answers with one value per model, and the HPA controller finds both."""
    assert (len(monitoring.demand(MODEL)), monitoring.demand(OTHER_MODEL)) == (1, ["0"])
    path = monitoring.mesh.release.path("horizontalpodautoscalers", group="autoscaling/v2")
    monitoring.cluster.wait(
        path,
        lambda known: len(known) == 2 and all(condition_of(each, "ScalingActive") == "True" for each in known.values()),
    )


def test_demand_for_one_model_scales_its_pool_and_no_other(monitoring: Monitoring) -> None:
    with _replicas_seen(monitoring, CHAT) as chat, waiting(monitoring.mesh, OTHER_MODEL, 5):
        _await_replicas(monitoring, OTHER, lambda number: number == 2)
        assert monitoring.demand(OTHER_MODEL) == ["5"]
    _await_replicas(monitoring, OTHER, lambda number: number == 1)
    assert chat == {1}


def test_load_scales_up_and_its_end_scales_down_without_a_lost_request(monitoring: Monitoring) -> None:
    mesh = monitoring.mesh
    with _replicas_seen(monitoring, OTHER) as other, Load(mesh, clients=1) as always:
        with Load(mesh, clients=7) as heavy:
            _await_replicas(monitoring, CHAT, lambda number: number >= 2)
            eventually(lambda: monitoring.query("trenza_scheduler_capacity_slots").get(MODEL, 0) >= 8, 120, every_s=0.5)
            grown = mesh.pods("chat")
            heavy.await_answers(20)
        _await_replicas(monitoring, CHAT, lambda number: number == 1)
        eventually(lambda: len([pod for pod in grown if pod.exit_code is not None]) >= len(grown) - 1, 120)
        always.await_answers(10)
    assert (heavy.failures, always.failures) == ({}, {})
    assert {pod.exit_code for pod in grown if pod.served} <= {0, None}
    assert other == {1}


def _await_replicas(monitoring: Monitoring, deployment: str, condition: Callable[[int], bool]) -> None:
    release = monitoring.mesh.release
    monitoring.cluster.wait(
        release.path("deployments"),
        lambda known: condition(known[release.key(deployment)]["spec"]["replicas"]) or None,
        limit_s=180,
    )


@contextmanager
def _replicas_seen(monitoring: Monitoring, deployment: str) -> Iterator[set[int]]:
    """Every number of replicas that a Deployment is to have in the meantime."""
    release, seen, over = monitoring.mesh.release, set[int](), threading.Event()

    def look() -> None:
        while not over.is_set():
            for known in monitoring.cluster.watch(release.path("deployments"), 3):
                seen.add(known[release.key(deployment)]["spec"]["replicas"])
                if over.is_set():
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(60)


@contextmanager
def waiting(mesh: RunningMesh, model: str, number: int) -> Iterator[None]:
    """So many requests that wait for a model, and are given up at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    for _ in range(number):
        asyncio.run_coroutine_threadsafe(_ask_in_vain(mesh, model), loop)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end_tasks(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


async def _ask_in_vain(mesh: RunningMesh, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"Authorization": f"Bearer {mesh.key}"}
    async with httpx.AsyncClient(base_url=mesh.url, headers=headers, timeout=ANSWER_LIMIT_S) as client:
        await client.post("/v1/chat/completions", json=body)
