"""Pods are replaced, drained and evicted under load, and every request is answered; real processes stand in for the pods."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from cluster.lab.cluster import Cluster, Object
from cluster.lab.running import MESH, Load, RunningMesh, running_mesh
from mesh import eventually

AGAIN = {"podAnnotations": {"example.com/try": "again"}}


@pytest.fixture(scope="module")
def mesh(lab: Cluster) -> Iterator[RunningMesh]:
    with running_mesh(lab, "moving") as started:
        yield started


@pytest.fixture
def load(mesh: RunningMesh) -> Iterator[Load]:
    """Requests from before the first change to after the last, each of which must be answered."""
    mesh.await_settled()
    with Load(mesh) as asking:
        asking.await_answers(10)
        yield asking
        asking.await_answers(10)
    assert asking.failures == {}, f"logs are in {mesh.kubelet.folder}; {mesh.network.troubles}"


def test_a_pool_is_rolled(mesh: RunningMesh, load: Load) -> None:
    _roll(mesh, load, "chat", {"pools": {"chat": AGAIN}}, "trenza-pool-chat")


def test_the_gateways_are_rolled(mesh: RunningMesh, load: Load) -> None:
    _roll(mesh, load, "gateway", {"gateway": AGAIN}, "trenza-gateway")


def test_the_scheduler_is_replaced(mesh: RunningMesh, load: Load) -> None:
    _roll(mesh, load, "scheduler", {"scheduler": AGAIN}, "trenza-scheduler")


def test_a_node_is_drained(mesh: RunningMesh, load: Load) -> None:
    node = mesh.kubelet.names[0]
    before = [pod for each in ("chat", "gateway", "scheduler") for pod in mesh.pods(each)]
    mesh.cluster.kubectl("drain", node, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=240s")
    try:
        for component, count in (("chat", 2), ("gateway", 2), ("scheduler", 1)):
            mesh.await_pods(component, count)
        left = mesh.cluster.items("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")
        assert left == []
        load.await_answers(10)
        ended = [pod for pod in before if pod.exit_code is not None and pod.served]
        assert ended
        assert {pod.exit_code for pod in ended} == {0}
    finally:
        mesh.cluster.kubectl("uncordon", node)


def test_an_eviction_takes_one_pod_at_a_time(mesh: RunningMesh, load: Load) -> None:
    first, second = mesh.pods("chat")
    assert _evict(mesh, first.name) == httpx.codes.CREATED
    # The budget lets one go: until its successor is ready the other one has to stay.
    assert _evict(mesh, second.name) == httpx.codes.TOO_MANY_REQUESTS
    eventually(lambda: first.exit_code is not None, 120)
    assert first.exit_code == 0
    mesh.await_pods("chat", 2)
    eventually(lambda: _evict(mesh, second.name) == httpx.codes.CREATED, 60, every_s=0.5)
    eventually(lambda: second.exit_code is not None, 120)
    assert second.exit_code == 0
    mesh.await_pods("chat", 2)


def _roll(mesh: RunningMesh, load: Load, component: str, change: Object, deployment: str) -> None:
    """Upgrades the release so that a component gets new pods, and waits until the old processes have ended by themselves."""
    before = mesh.pods(component)
    assert all(pod.served for pod in before)
    mesh.release.upgrade(MESH, change)
    mesh.await_rolled_out(deployment)
    mesh.await_pods(component, len(before))
    after = mesh.pods(component)
    assert not {pod.name for pod in before} & {pod.name for pod in after}
    assert [pod.exit_code for pod in before] == [0] * len(before)
    assert [pod.restarts for pod in after] == [0] * len(after)
    load.await_answers(10)


def _evict(mesh: RunningMesh, name: str) -> int:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": mesh.release.namespace},
    }
    return mesh.cluster.http.post(f"{mesh.release.path('pods', name, group='v1')}/eviction", json=body).status_code
