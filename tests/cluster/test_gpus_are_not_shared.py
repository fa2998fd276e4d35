"""Each model pod is bound to a node with its own GPU, and what there is no GPU for waits and says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from cluster.lab.cluster import Cluster, Object, condition_of
from cluster.lab.nodes import add_nodes, fake_node, remove_nodes
from cluster.lab.release import VARIANTS, Release, installed
from cluster.lab.running import rolled_out

GPU = "nvidia.com/gpu"
SHARED = "nvidia.com/gpu.shared"
SMALL_SLICE, LARGE_SLICE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
POOL = "trenza.dev/pool"
ONLY_CHAT = {"pools": {name: {"enabled": False} for name in ("audio", "vision", "images")}}
ONE_GPU_EACH = {"pools": {"chat": {"replicas": 4, "gpu": {"count": 1}}}}


@pytest.fixture(scope="module")
def gpu_nodes(lab: Cluster) -> Iterator[Cluster]:
    """Two nodes of two GPUs, one whose GPU is cut by MIG, and one whose GPU is shared by time-slicing."""
    nodes = (
        fake_node("gpu-0", "zone-0", {GPU: 2}),
        fake_node("gpu-1", "zone-1", {GPU: 2}),
        fake_node("mig-0", "zone-0", {SMALL_SLICE: 4, LARGE_SLICE: 1}),
        fake_node("sliced-0", "zone-1", {SHARED: 4}),
    )
    add_nodes(lab, *nodes)
    yield lab
    remove_nodes(lab, *nodes)


def test_each_replica_has_a_gpu_of_its_own_and_one_too_many_waits(gpu_nodes: Cluster) -> None:
    with installed(gpu_nodes, "gpus", ONLY_CHAT, ONE_GPU_EACH) as release:
        bound = _await_bound(release, "chat", 4)
        assert Counter(pod["spec"]["nodeName"] for pod in bound) == {"gpu-0": 2, "gpu-1": 2}
        _assert_nothing_is_shared(gpu_nodes)
        _assert_others_keep_away(release)

        release.upgrade(ONLY_CHAT, {"pools": {"chat": {"replicas": 5, "gpu": {"count": 1}}}})
        waiting = gpu_nodes.wait(release.path("pods", group="v1"), _unschedulable, labelSelector=f"{POOL}=chat")
        (reason,) = (each for each in waiting["status"]["conditions"] if each["type"] == "PodScheduled")
        assert (reason["reason"], "Insufficient nvidia.com/gpu" in reason["message"]) == ("Unschedulable", True)
        name = waiting["metadata"]["name"]
        gpu_nodes.wait(
            release.path("events", group="v1"),
            lambda known: [e for e in known.values() if e["reason"] == "FailedScheduling" and GPU in e["message"]],
            fieldSelector=f"involvedObject.name={name}",
        )
        assert len(_await_bound(release, "chat", 4)) == 4
        _assert_nothing_is_shared(gpu_nodes)


def test_a_pool_that_has_every_gpu_is_replaced_pod_by_pod(gpu_nodes: Cluster) -> None:
    with installed(gpu_nodes, "replaced", ONLY_CHAT, ONE_GPU_EACH) as release:
        first = {pod["metadata"]["uid"] for pod in _await_bound(release, "chat", 4)}
        release.upgrade(ONLY_CHAT, ONE_GPU_EACH, {"pools": {"chat": {"podAnnotations": {"example.com/try": "two"}}}})
        path = release.path("deployments")
        gpu_nodes.wait(path, lambda known: rolled_out(known[release.key("trenza-pool-chat")]))
        second = {pod["metadata"]["uid"] for pod in _await_bound(release, "chat", 4)}
        assert not first & second
        _assert_nothing_is_shared(gpu_nodes)


def test_slices_of_gpus_go_where_there_are_such_slices(gpu_nodes: Cluster) -> None:
    with gpu_nodes.namespace("mig") as namespace:
        _make_volume(gpu_nodes, namespace)
        release = Release(gpu_nodes, namespace).install(VARIANTS["mig"])
        try:
            (small,), (large,) = _await_bound(release, "chat", 1), _await_bound(release, "chat-large", 1)
            assert {small["spec"]["nodeName"], large["spec"]["nodeName"]} == {"mig-0"}
            assert (_gpus(small), _gpus(large)) == ({SMALL_SLICE: 1}, {LARGE_SLICE: 1})
            _assert_nothing_is_shared(gpu_nodes)
        finally:
            release.uninstall()
            gpu_nodes.delete("/api/v1/persistentvolumes/large-models")


def test_time_slices_are_shared_as_far_as_the_device_plugin_offers(gpu_nodes: Cluster) -> None:
    with installed(gpu_nodes, "slices", VARIANTS["timeslicing"], ONLY_CHAT) as release:
        bound = _await_bound(release, "chat", 3)
        assert {pod["spec"]["nodeName"] for pod in bound} == {"sliced-0"}
        assert [_gpus(pod) for pod in bound] == [{SHARED: 1}] * 3
        _assert_nothing_is_shared(gpu_nodes)


def test_replicas_are_spread_over_zones_and_nodes(lab: Cluster) -> None:
    with installed(lab, "spread", ONLY_CHAT, {"pools": {"chat": {"replicas": 4}}}) as release:
        names = [pod["spec"]["nodeName"] for pod in _await_bound(release, "chat", 4)]
        assert Counter(names) == dict.fromkeys(("cpu-0", "cpu-1", "cpu-2", "cpu-3"), 1)
        (budget,) = (
            each
            for each in release.manifest()
            if each["metadata"]["name"] == "trenza-pool-chat" and "Budget" in each["kind"]
        )
        lab.wait(
            release.path("poddisruptionbudgets", group="policy/v1"),
            lambda known: known[release.key(budget["metadata"]["name"])]["status"].get("disruptionsAllowed") == 1,
        )


def _await_bound(release: Release, pool: str, count: int) -> list[Object]:
    """The pods of a pool once so many of them are bound and ready."""

    def bound(known: dict[str, Object]) -> list[Object]:
        found = [pod for pod in known.values() if condition_of(pod, "Ready") == "True"]
        return found if len(found) == count else []

    path = release.path("pods", group="v1")
    return list(release.cluster.wait(path, bound, labelSelector=f"{POOL}={pool}"))


def _assert_nothing_is_shared(cluster: Cluster) -> None:
    """Devices are whole numbers that limits ask for, so that they are shared by nobody if no node gave out more than it has."""
    given: dict[str, Counter[str]] = {}
    for pod in cluster.items("/api/v1/pods"):
        if node := pod["spec"].get("nodeName"):
            given.setdefault(node, Counter()).update(_gpus(pod))
    for node in cluster.items("/api/v1/nodes"):
        there = node["status"]["allocatable"]
        for resource, count in given.get(node["metadata"]["name"], Counter()).items():
            assert count <= int(there.get(resource, 0)), (node["metadata"]["name"], resource)


def _assert_others_keep_away(release: Release) -> None:
    """What needs no GPU takes no room beside one."""
    pods = release.cluster.items(release.path("pods", group="v1"), labelSelector=f"!{POOL}")
    assert len(pods) >= 3
    assert not [pod for pod in pods if pod["spec"].get("nodeName", "").startswith(("gpu", "mig", "sliced"))]


def _gpus(pod: Object) -> dict[str, int]:
    """What a pod takes of devices."""
    limits = [container["resources"].get("limits", {}) for container in pod["spec"]["containers"]]
    return {name: int(count) for limit in limits for name, count in limit.items() if name.startswith("nvidia.com/")}


def _unschedulable(known: dict[str, Object]) -> Object | None:
    return next((pod for pod in known.values() if condition_of(pod, "PodScheduled") == "False"), None)


def _make_volume(cluster: Cluster, namespace: str) -> None:
    """The claim `large-models` that the MIG example expects, and a volume for it."""
    form = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    claim = {"name": "large-models", "namespace": namespace}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "large-models"},
            "spec": {**form, "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/large"}, "claimRef": claim},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": claim,
            "spec": {**form, "volumeName": "large-models", "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
