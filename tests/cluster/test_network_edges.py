"""The stored NetworkPolicies let through what the architecture needs, and not one edge more."""

from __future__ import annotations

from dataclasses import replace

from cluster.lab.cluster import NAMESPACES, Cluster, Object
from cluster.lab.network import Place, allowed
from cluster.lab.release import VARIANTS, Release, installed

PORTS = (53, 443, 8080, 9090, 9091, 9092, 9100, 9101)
INSTANCE = "app.kubernetes.io/instance"
Edge = tuple[str, str, int]
POOLS = ("chat", "audio", "vision", "images")
OUTSIDE = ("stranger", "prometheus", "keda", "dns", "internet", "private network", "cloud metadata")

EVERYBODY_TO_GATEWAY = {(who, "gateway", port) for who in OUTSIDE for port in (8080, 9090)}
MESH = {
    ("gateway", "scheduler", 9091),
    *(("gateway", pool, 9092) for pool in POOLS),
    *((pool, "scheduler", 9091) for pool in POOLS),
}
METRICS = {("prometheus", part, 9100) for part in ("gateway", "scheduler", *POOLS)}
NAMES = {(part, "dns", 53) for part in ("gateway", *POOLS)}
USUAL = EVERYBODY_TO_GATEWAY | MESH | METRICS | NAMES


def test_usual_edges(cluster: Cluster) -> None:
    with installed(cluster, "edges") as release:
        assert _edges(release) == USUAL


def test_keda_reaches_the_scheduler_and_nothing_else(cluster: Cluster) -> None:
    with installed(cluster, "edges-keda", VARIANTS["keda"]) as release:
        assert _edges(release) == USUAL | {("keda", "scheduler", 9091)}


def test_only_what_fetches_models_reaches_the_internet(cluster: Cluster) -> None:
    with installed(cluster, "edges-hub", VARIANTS["models-hub"]) as release:
        assert _edges(release) == USUAL | {("chat", "internet", 443)}


def test_a_gateway_that_is_told_whom_it_serves_serves_nobody_else(cluster: Cluster) -> None:
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    with installed(cluster, "edges-from", {"gateway": {"networkPolicy": {"from": [only]}}}) as release:
        others = {edge for edge in EVERYBODY_TO_GATEWAY if edge[0] != "keda"}
        assert _edges(release) == USUAL - others


def test_releases_of_one_namespace_do_not_reach_into_each_other(cluster: Cluster) -> None:
    with installed(cluster, "edges-two") as release:
        policies = cluster.items(release.path("networkpolicies", group="networking.k8s.io/v1"))
        places = _places(release)
        other = {name: replace(place, labels={**place.labels, INSTANCE: "other"}) for name, place in places.items()}
        for source in ("gateway", *POOLS):
            assert not allowed(policies, other[source], places["scheduler"], 9091)
            assert not allowed(policies, other["gateway"], places["chat"], 9092)


def _edges(release: Release) -> set[Edge]:
    """Every connection that is let through between any two places, those aside that have nothing of Trenza at either end."""
    policies = release.cluster.items(release.path("networkpolicies", group="networking.k8s.io/v1"))
    places = _places(release)
    ours = {name for name, place in places.items() if place.namespace == release.namespace}
    return {
        (source.name, target.name, port)
        for source in places.values()
        for target in places.values()
        for port in PORTS
        if source is not target and {source.name, target.name} & ours and allowed(policies, source, target, port)
    }


def _places(release: Release) -> dict[str, Place]:
    """The parts of the mesh by component, from the pods that the API server would make, and who else there may be."""
    namespace = release.cluster.get(f"{NAMESPACES}/{release.namespace}")["metadata"]["labels"]
    deployments = release.cluster.items(release.path("deployments"))
    places = [_part(item, release.namespace, namespace) for item in deployments]
    places += [
        Place("stranger", "elsewhere", {"app": "web"}, {"kubernetes.io/metadata.name": "elsewhere"}),
        Place("prometheus", "monitoring", {"app": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"}),
        Place("keda", "keda", {"app": "keda-operator"}, {"kubernetes.io/metadata.name": "keda"}),
        Place("dns", "kube-system", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}),
        Place("internet", address="93.184.216.34"),
        Place("private network", address="10.20.0.7"),
        Place("cloud metadata", address="169.254.169.254"),
    ]
    return {place.name: place for place in places}


def _part(deployment: Object, namespace: str, namespace_labels: dict[str, str]) -> Place:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return Place(labels["app.kubernetes.io/component"], namespace, labels, namespace_labels)
