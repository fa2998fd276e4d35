"""No component may ask the Kubernetes API for more than anybody who is authenticated, and none has a token."""

from __future__ import annotations

from cluster.lab.cluster import Cluster, Object
from cluster.lab.release import installed

EVERY_PART: Object = {
    "pools": {"images": {"models": {"brush": {"source": "hub://house/brush"}}, "storage": {"type": "pvc"}}},
    "gateway": {"autoscaling": {"enabled": True}, "ingress": {"enabled": True}},
}
FORBIDDEN = ("get secrets", "list pods", "create pods", "get configmaps", "patch deployments", "create tokenreviews")


def test_service_accounts_may_what_anybody_may(cluster: Cluster) -> None:
    with cluster.namespace("nobody") as empty, installed(cluster, "access", EVERY_PART) as release:
        anybody = _rules(cluster, empty, "default")
        accounts = cluster.items(release.path("serviceaccounts", group="v1"))
        names = {account["metadata"]["name"] for account in accounts} - {"default"}
        assert {"trenza-gateway", "trenza-scheduler", "trenza-pool-chat", "trenza-pool-images"} <= names
        for name in names:
            assert _rules(cluster, release.namespace, name) == anybody, name
            for question in FORBIDDEN:
                assert not _may(cluster, release.namespace, name, *question.split()), (name, question)


def test_there_is_nothing_that_grants(cluster: Cluster) -> None:
    with installed(cluster, "grants", EVERY_PART) as release:
        kinds = {item["kind"] for item in release.manifest()}
        assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def test_no_pod_carries_a_token(cluster: Cluster) -> None:
    """The API server adds tokens to pods as it admits them, so the stored pods are looked at."""
    with installed(cluster, "tokens", EVERY_PART) as release:
        wanted = len([item for item in release.manifest() if item["kind"] == "Deployment"])

        def one_of_each(known: dict[str, Object]) -> list[Object]:
            parts = {pod["spec"]["serviceAccountName"] for pod in known.values()}
            return list(known.values()) if len(parts) == wanted else []

        for pod in cluster.wait(release.path("pods", group="v1"), one_of_each, 60):
            sources = [
                source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
            ]
            assert not [source for source in sources if "serviceAccountToken" in source]
            mounts = [mount["mountPath"] for each in pod["spec"]["containers"] for mount in each["volumeMounts"]]
            assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts


def _rules(cluster: Cluster, namespace: str, account: str) -> set[str]:
    """What `kubectl auth can-i --list` says of a service account, a line each."""
    user = f"--as=system:serviceaccount:{namespace}:{account}"
    groups = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"]
    told = cluster.kubectl("auth", "can-i", "--list", "--no-headers", "-n", namespace, user, *groups).stdout
    rules = {" ".join(line.split()) for line in told.splitlines() if line.strip()}
    assert any("selfsubjectaccessreviews" in rule for rule in rules)  # the list is one
    return rules


def _may(cluster: Cluster, namespace: str, account: str, verb: str, resource: str) -> bool:
    user = f"--as=system:serviceaccount:{namespace}:{account}"
    answer = cluster.kubectl("auth", "can-i", verb, resource, "-n", namespace, user, check=False).stdout.strip()
    assert answer in ("yes", "no")
    return answer == "yes"
