"""What a cluster holds, of every kind that it knows: to see what an installation leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.lab.cluster import Cluster, Object

NOT_OURS = frozenset({"events", "leases", "namespaces", "nodes", "componentstatuses", "apiservices", "csinodes"})
"""Kinds that change by themselves, or hold nothing that an installation makes."""
AGGREGATED = ("metrics.k8s.io",)
"""Groups whose lists are measurements."""


class Inventory:
    """Lists every object of a namespace, or every one that is in none."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._namespaced = list(self._kinds(namespaced=True))
        self._global = list(self._kinds(namespaced=False))

    def of(self, namespace: str) -> dict[str, Object]:
        """The objects of a namespace by `kinds/name`."""
        return self._read([(kind, f"{root}/namespaces/{namespace}/{kind}") for root, kind in self._namespaced])

    def of_cluster(self) -> dict[str, Object]:
        """The objects that are in no namespace by `kinds/name`."""
        return self._read([(kind, f"{root}/{kind}") for root, kind in self._global])

    def _read(self, paths: list[tuple[str, str]]) -> dict[str, Object]:
        return {
            f"{kind}/{item['metadata']['name']}": item for kind, path in paths for item in self._cluster.items(path)
        }

    def _kinds(self, namespaced: bool) -> Iterator[tuple[str, str]]:
        groups = self._cluster.get("/apis")["groups"]
        roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
        for root in roots:
            if any(group in root for group in AGGREGATED):
                continue
            for kind in self._cluster.get(root)["resources"]:
                listed = "list" in kind["verbs"] and "/" not in kind["name"]
                if listed and kind["namespaced"] == namespaced and kind["name"] not in NOT_OURS:
                    yield root, kind["name"]
