"""Nodes of the laboratory: KWOK pretends that they are there and that their pods run."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.lab.cluster import Cluster, Object, condition_of

NODES = "/api/v1/nodes"
ROOM = {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi", "pods": "110"}


def fake_node(name: str, zone: str, gpus: Mapping[str, int] | None = None, **labels: str) -> Object:
    """A node with room, in a zone; one with GPUs has the taint that keeps others away, as clusters with GPUs do."""
    resources = {**ROOM, **{resource: str(count) for resource, count in (gpus or {}).items()}}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": zone,
                **labels,
            },
        },
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}] if gpus else []},
        "status": {"capacity": resources, "allocatable": resources},
    }


def add_nodes(cluster: Cluster, *nodes: Object) -> None:
    """Creates nodes and waits until they are ready."""
    names = {node["metadata"]["name"] for node in nodes}
    for node in nodes:
        cluster.create(NODES, node)
        cluster.patch(f"{NODES}/{node['metadata']['name']}/status", {"status": node["status"]})

    def all_ready(known: dict[str, Object]) -> bool:
        return all(name in known and condition_of(known[name], "Ready") == "True" for name in names)

    cluster.wait(NODES, all_ready, 90)


def remove_nodes(cluster: Cluster, *nodes: Object) -> None:
    """Takes nodes away again."""
    for node in nodes:
        cluster.delete(f"{NODES}/{node['metadata']['name']}")
