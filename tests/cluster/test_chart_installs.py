"""A real API server takes every variant of the chart without a warning, and nothing is left of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster.lab.cluster import CHART, Cluster, Object, condition_of
from cluster.lab.inventory import Inventory
from cluster.lab.release import VARIANTS, Release
from mesh import eventually

NOT_RESTRICTED = {"models-s3": {"trenza-pool-vision": "hostPath"}}
"""Pools that the profile `restricted` does not admit, by variant, and what it says about them: the documented exception."""
KEPT = "helm.sh/resource-policy"
CHANGED = {"commonLabels": {"stage": "two"}, "gateway": {"replicas": 4, "podAnnotations": {"example.com/try": "two"}}}


@pytest.fixture(scope="module")
def inventory(cluster: Cluster) -> Inventory:
    return Inventory(cluster)


@pytest.mark.parametrize("variant", VARIANTS)
def test_install_upgrade_rollback_uninstall(cluster: Cluster, inventory: Inventory, variant: str) -> None:
    exceptions = NOT_RESTRICTED.get(variant, {})
    with cluster.namespace(variant) as namespace, what_pods_name(cluster, variant, namespace):
        before, around = set(inventory.of(namespace)), set(inventory.of_cluster())
        release = Release(cluster, namespace)
        _assert_no_warnings(release.warnings(VARIANTS[variant]), exceptions)

        release.install(VARIANTS[variant])
        _assert_no_warnings(_said_by_the_api(release), exceptions)
        _assert_pods_are_admitted(release, exceptions)
        first = _as_declared(release.manifest())
        assert _kinds(first) >= {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}

        release.upgrade(VARIANTS[variant], CHANGED)
        _assert_no_warnings(_said_by_the_api(release), exceptions)
        second = _as_declared(release.manifest())
        assert second["Deployment", "trenza-gateway"] != first["Deployment", "trenza-gateway"]
        assert _data(second) == _data(first)  # no secret changes under its users

        release.rollback(1)
        _assert_no_warnings(_said_by_the_api(release), exceptions)
        assert _as_declared(release.manifest()) == first

        release.uninstall()
        eventually(lambda: set(_left(inventory.of(namespace))) <= before, limit_s=90, every_s=0.5)
        assert set(inventory.of_cluster()) <= around


def test_a_typing_mistake_is_refused_before_anything_is_made(cluster: Cluster, inventory: Inventory) -> None:
    with cluster.namespace("mistake") as namespace:
        before = set(inventory.of(namespace))
        values = cluster.folder / "mistake.json"
        values.write_text('{"gateway": {"replica": 3}}')
        done = cluster.helm("install", "trenza", str(CHART), "-n", namespace, f"--values={values}", check=False)
        assert done.returncode != 0
        assert "replica" in done.stderr
        assert set(inventory.of(namespace)) == before


@contextmanager
def what_pods_name(cluster: Cluster, variant: str, namespace: str) -> Iterator[None]:
    """Classes that pods must find before they are admitted: clusters have them, and so has the laboratory for a moment."""
    text = cluster.helm("template", "trenza", str(CHART), "-n", namespace, f"--values={VARIANTS[variant]}").stdout
    made = []
    for name in _named(text, "priorityClassName"):
        path = "/apis/scheduling.k8s.io/v1/priorityclasses"
        body: Object = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
        made += _made(cluster, path, name, body)
    for name in _named(text, "runtimeClassName"):
        body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": name}
        made += _made(cluster, "/apis/node.k8s.io/v1/runtimeclasses", name, body)
    try:
        yield
    finally:
        for path in made:
            cluster.delete(path)


def _named(text: str, key: str) -> set[str]:
    return {line.split(":", 1)[1].strip() for line in text.splitlines() if line.strip().startswith(f"{key}:")}


def _made(cluster: Cluster, path: str, name: str, body: Object) -> list[str]:
    if cluster.find(f"{path}/{name}") is not None:
        return []
    cluster.create(path, {**body, "metadata": {"name": name}})
    return [f"{path}/{name}"]


def _said_by_the_api(release: Release) -> list[str]:
    return [line for line in release.said.splitlines() if "arning" in line or "WARN" in line or "] " in line]


def _assert_no_warnings(warnings: list[str], exceptions: dict[str, str]) -> None:
    """Of a pool that is an exception the API server warns, and of nothing else."""
    others = [line for line in warnings if not any(word in line for word in exceptions.values())]
    assert others == []
    assert bool(warnings) == bool(exceptions)


def _assert_pods_are_admitted(release: Release, exceptions: dict[str, str]) -> None:
    """Every Deployment has its pods: Pod Security and the other admission plugins let them in, but for the exceptions."""

    def settled(known: dict[str, Object]) -> dict[str, str]:
        refused = {}
        for item in known.values():
            failed = condition_of(item, "ReplicaFailure") == "True"
            if not failed and item.get("status", {}).get("replicas", 0) < item["spec"]["replicas"]:
                return {}
            if failed:
                (reason,) = (each for each in item["status"]["conditions"] if each["type"] == "ReplicaFailure")
                refused[item["metadata"]["name"]] = reason["message"]
        return refused or {"": ""}

    refused = release.cluster.wait(release.path("deployments"), settled, 60)
    assert set(refused) - {""} == set(exceptions), refused
    for name, word in exceptions.items():
        assert word in refused[name]


def _as_declared(found: list[Object]) -> dict[tuple[str, str], Object]:
    """Objects by kind and name without what the cluster writes into them by itself."""
    declared = {}
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in found if item["kind"] == "HorizontalPodAutoscaler"}
    for item in found:
        metadata = item["metadata"]
        if item["kind"] == "Deployment" and metadata["name"] in scaled:
            del item["spec"]["replicas"]  # the autoscaler's business
        annotations = metadata.get("annotations", {})
        kept = {key: value for key, value in annotations.items() if not key.startswith("deployment.kubernetes.io/")}
        content = {key: value for key, value in item.items() if key not in ("metadata", "status", "secrets")}
        declared[item["kind"], metadata["name"]] = {**content, "labels": metadata["labels"], "annotations": kept}
    return declared


def _kinds(declared: dict[tuple[str, str], Object]) -> set[str]:
    return {kind for kind, _ in declared}


def _data(declared: dict[tuple[str, str], Object]) -> dict[str, Object]:
    return {name: item["data"] for (kind, name), item in declared.items() if kind == "Secret"}


def _left(found: dict[str, Object]) -> dict[str, Object]:
    """What remains although the chart does not say that it is to be kept."""
    return {name: item for name, item in found.items() if item["metadata"].get("annotations", {}).get(KEPT) != "keep"}
