"""The NetworkPolicies as a graph: who may speak to whom, computed as a cluster would, is what the architecture says."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from chart.rendering import NAMESPACE, RELEASE, Chart, Objects

HTTP, GRPC, SCHEDULER, SERVICE, METRICS, DNS, HTTPS = 8080, 9090, 9091, 9092, 9100, 53, 443
PORTS = (22, DNS, 80, HTTPS, 6443, HTTP, GRPC, SCHEDULER, SERVICE, METRICS, 9101)


@dataclass(frozen=True)
class End:
    """Something that speaks or listens: a pod in a namespace, or an address outside the cluster."""

    name: str
    namespace: str = NAMESPACE
    labels: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    address: str = ""


OUTSIDE = (
    End("prometheus", "monitoring"),
    End("keda-operator", "keda"),
    End("coredns", "kube-system", {"k8s-app": "kube-dns"}),
    End("api-server-proxy", "kube-system", {"k8s-app": "other"}),
    End("ingress-controller", "ingress"),
    End("stranger", "elsewhere", {"app.kubernetes.io/name": "trenza", "app.kubernetes.io/component": "gateway"}),
    End("neighbour", NAMESPACE, {"app.kubernetes.io/name": "something-else"}),
    End("internet", "", address="93.184.216.34"),
    End("private network", "", address="10.20.1.1"),
    End("metadata service", "", address="169.254.169.254"),
)


class Network:
    """Decides as the API's documentation says: what a policy selects may do only what some policy allows, at both ends."""

    def __init__(self, objects: Objects) -> None:
        self._policies = [item["spec"] for item in objects.of("NetworkPolicy")]
        self.pods = [End(name, NAMESPACE, labels) for name, labels, _ in objects.pods()]

    def edges(self) -> set[tuple[str, str, int]]:
        """Every connection from anything to anything, at ports of TCP, that has one of our pods at one end."""
        ends = [*self.pods, *OUTSIDE]
        pairs = [
            (one, other) for one in ends for other in ends if one != other and (one in self.pods or other in self.pods)
        ]
        return {
            (one.name, other.name, port)
            for one, other in pairs
            for port in PORTS
            if self._may("Egress", one, other, port) and self._may("Ingress", other, one, port)
        }

    def _may(self, direction: str, selected: End, other: End, port: int) -> bool:
        if selected.namespace != NAMESPACE:
            return True
        policies = [
            policy
            for policy in self._policies
            if direction in policy["policyTypes"] and matches(policy["podSelector"], selected.labels)
        ]
        key, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        rules = [rule for policy in policies for rule in policy.get(key) or []]
        return not policies or any(allows(rule, side, other, port) for rule in rules)


def allows(rule: Mapping[str, Any], side: str, other: End, port: int) -> bool:
    """Whether a rule lets the other end through at a port of TCP."""
    at_port = not rule.get("ports") or any(one["port"] == port and one["protocol"] == "TCP" for one in rule["ports"])
    return at_port and (not rule.get(side) or any(is_peer(peer, other) for peer in rule[side]))


def is_peer(peer: Mapping[str, Any], end: End) -> bool:
    """Whether a peer of a rule means this end."""
    if "ipBlock" in peer:
        networks = [peer["ipBlock"]["cidr"], *peer["ipBlock"].get("except", [])]
        inside = [bool(end.address) and within(end.address, network) for network in networks]
        return inside[0] and not any(inside[1:])
    if end.address:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != NAMESPACE:
        return False
    return matches(peer.get("podSelector", {}), end.labels)


def within(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists"
        if expression["key"] not in labels:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


GATEWAY, BRAIN, EXAM = f"{RELEASE}-gateway", f"{RELEASE}-scheduler", f"{RELEASE}-exam"


def architecture(pools: Iterable[str], outside_reach_gateway: bool = True) -> set[tuple[str, str, int]]:
    """The edges that docs/architecture.md has: gateway to scheduler and replicas, replicas to the scheduler; names and metrics."""
    pools = [f"{RELEASE}-pool-{pool}" for pool in pools]
    ours = [GATEWAY, BRAIN, *pools]
    edges = {(GATEWAY, BRAIN, SCHEDULER), (EXAM, GATEWAY, HTTP), (EXAM, "coredns", DNS), (GATEWAY, "coredns", DNS)}
    for pool in pools:
        edges |= {(GATEWAY, pool, SERVICE), (pool, BRAIN, SCHEDULER), (pool, "coredns", DNS)}
    edges |= {("prometheus", one, METRICS) for one in ours}
    if outside_reach_gateway:
        edges |= {(one.name, GATEWAY, port) for one in OUTSIDE for port in (HTTP, GRPC)}
    return edges


EVERYBODY = ("chat", "audio", "vision", "images")


def edges(chart: Chart, values: Mapping[str, Any] | None = None) -> set[tuple[str, str, int]]:
    return Network(chart.render(values)).edges()


def test_with_no_values_the_edges_are_the_architecture_s(chart: Chart) -> None:
    assert edges(chart) == architecture(EVERYBODY)


@pytest.mark.parametrize(
    "variant", ["cpu", "gpu", "kind", "hpa", "timeslicing", "monitoring", "gateway-api", "mtls-secret"]
)
def test_these_variants_need_no_more(chart: Chart, variant: str) -> None:
    assert Network(chart.variant(variant)).edges() == architecture(EVERYBODY)


@pytest.mark.parametrize("variant", ["keda", "mtls-certmanager"])
def test_keda_reaches_the_scheduler_where_it_scales(chart: Chart, variant: str) -> None:
    assert Network(chart.variant(variant)).edges() == architecture(EVERYBODY) | {("keda-operator", BRAIN, SCHEDULER)}


def test_one_pool_with_keda_is_enough_for_that(chart: Chart) -> None:
    one = edges(chart, {"pools": {"images": {"autoscaling": {"mode": "keda"}}}})
    assert one - architecture(EVERYBODY) == {("keda-operator", BRAIN, SCHEDULER)}
    off = edges(chart, {"pools": {"images": {"enabled": False, "autoscaling": {"mode": "keda"}}}})
    assert off == architecture(("chat", "audio", "vision"))


def test_only_pools_that_fetch_from_afar_reach_it(chart: Chart) -> None:
    hub = Network(chart.variant("models-hub")).edges()
    assert hub - architecture(EVERYBODY) == {(f"{RELEASE}-pool-chat", "internet", HTTPS)}
    several = Network(chart.variant("models-s3")).edges()  # vision copies from a mounted folder, images mounts an image
    assert several - architecture(EVERYBODY) == {(f"{RELEASE}-pool-chat", "internet", HTTPS)}


def test_the_gateway_reaches_what_it_is_told_to_fetch(chart: Chart) -> None:
    more = Network(chart.variant("ingress")).edges() - architecture(EVERYBODY)
    assert more == {(GATEWAY, name, port) for name in ("internet", "private network") for port in (80, HTTPS)}
    bucket = edges(chart, {"gateway": {"media": {"store": "s3", "s3": {"bucket": "pictures"}}}})
    assert bucket - architecture(EVERYBODY) == {(GATEWAY, "internet", HTTPS)}


def test_a_bucket_at_a_port_of_its_own_is_reached_there(chart: Chart) -> None:
    media = {"store": "s3", "s3": {"bucket": "pictures", "endpoint": "http://objects.example.com:6443"}}
    assert edges(chart, {"gateway": {"media": media}}) - architecture(EVERYBODY) == {(GATEWAY, "internet", 6443)}
    media["s3"] = {"bucket": "pictures", "endpoint": "http://objects.example.com"}
    assert edges(chart, {"gateway": {"media": media}}) - architecture(EVERYBODY) == {(GATEWAY, "internet", 80)}


def test_who_reaches_the_gateway_can_be_said(chart: Chart) -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    found = edges(chart, {"gateway": {"networkPolicy": {"from": peers}}})
    wanted = {("ingress-controller", GATEWAY, port) for port in (HTTP, GRPC)}
    assert found == architecture(EVERYBODY, outside_reach_gateway=False) | wanted


def test_extra_rules_are_added(chart: Chart) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": [{"protocol": "TCP", "port": HTTPS}]}
    found = edges(chart, {"poolDefaults": {"networkPolicy": {"extraEgress": [rule]}}})
    assert found - architecture(EVERYBODY) == {
        (f"{RELEASE}-pool-{pool}", "private network", HTTPS) for pool in EVERYBODY
    }


def test_names_are_asked_over_udp_too(chart: Chart) -> None:
    for item in chart.render().of("NetworkPolicy"):
        rules = [rule for rule in item["spec"]["egress"] if {"protocol": "TCP", "port": DNS} in rule["ports"]]
        assert len(rules) == (item["metadata"]["name"] != BRAIN)
        assert all({"protocol": "UDP", "port": DNS} in rule["ports"] for rule in rules)


def test_another_release_in_the_namespace_is_a_stranger(chart: Chart) -> None:
    """Two meshes beside one another do not mix."""
    network, other = Network(chart.render()), Network(chart.render(release="other"))
    network._policies += other._policies
    network.pods += other.pods
    crossing = {
        (one, to, port)
        for one, to, port in network.edges()
        if {one.partition("-")[0], to.partition("-")[0]} == {RELEASE, "other"}
    }
    assert {to for _, to, _ in crossing} <= {GATEWAY, "other-gateway"}
    assert {one for one, _, _ in crossing} == set()  # egress is closed, so not even the open gateways meet


def test_policies_can_be_left_out(chart: Chart) -> None:
    assert chart.render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy") == []
