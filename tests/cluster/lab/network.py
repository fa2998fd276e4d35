"""NetworkPolicies as the network of a cluster reads them: who reaches whom, from the stored objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from cluster.lab.cluster import Object


@dataclass(frozen=True)
class Place:
    """An end of a connection: a pod by its labels and its namespace's, or an address outside the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def allowed(policies: Sequence[Object], source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let through: the source's policies let it out, and the target's let it in."""
    return _passes(policies, "Egress", source, target, port, protocol) and _passes(
        policies, "Ingress", target, source, port, protocol
    )


def _passes(policies: Sequence[Object], direction: str, subject: Place, peer: Place, port: int, protocol: str) -> bool:
    """Without a policy that selects the subject all is allowed; with any, what one of their rules allows."""
    selecting = [policy for policy in policies if _selects(policy, direction, subject)]
    rules = [rule for policy in selecting for rule in policy["spec"].get(direction.lower()) or ()]
    side = "to" if direction == "Egress" else "from"
    return not selecting or any(
        _ports(rule, port, protocol) and _peers(rule.get(side), peer, subject.namespace) for rule in rules
    )


def _selects(policy: Object, direction: str, subject: Place) -> bool:
    spec = policy["spec"]
    return (
        not subject.address
        and policy["metadata"]["namespace"] == subject.namespace
        and direction in spec["policyTypes"]
        and matches(spec.get("podSelector") or {}, subject.labels)
    )


def _ports(rule: Object, port: int, protocol: str) -> bool:
    """No list of ports means every port."""
    asked = rule.get("ports")
    return not asked or any(
        entry.get("protocol", "TCP") == protocol and entry["port"] <= port <= entry.get("endPort", entry["port"])
        for entry in asked
    )


def _peers(peers: Sequence[Object] | None, peer: Place, own_namespace: str) -> bool:
    """No list of peers means everybody."""
    return not peers or any(_is_peer(entry, peer, own_namespace) for entry in peers)


def _is_peer(entry: Object, peer: Place, own_namespace: str) -> bool:
    if block := entry.get("ipBlock"):
        if not peer.address:
            return False
        address = ip_address(peer.address)
        inside = address in ip_network(block["cidr"])
        return inside and not any(address in ip_network(each) for each in block.get("except") or ())
    if peer.address:
        return False
    namespaces = entry.get("namespaceSelector")
    near = peer.namespace == own_namespace if namespaces is None else matches(namespaces, peer.namespace_labels)
    return near and matches(entry.get("podSelector") or {}, peer.labels)


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects; an empty one selects everything."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
    raise ValueError(expression["operator"])
