"""Keys that an operator adds to the Secret that the chart has made stay when the release is upgraded."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cluster.lab.cluster import Cluster
from cluster.lab.release import VARIANTS, Release
from trenza_gateway.auth.keys import find_owner, parse_keys


def test_keys_that_were_added_stay(cluster: Cluster) -> None:
    with cluster.namespace("keys") as namespace:
        release = Release(cluster, namespace).install(VARIANTS["default"])
        path = release.path("secrets", "trenza-api-keys", group="v1")
        made = cluster.get(path)["data"]
        key, lines = (base64.b64decode(made[name]).decode() for name in ("key", "keys"))
        more = lines + f"alice:{hashlib.sha256(b'her own').hexdigest()}\n"
        cluster.patch(path, {"data": {"keys": base64.b64encode(more.encode()).decode()}})

        release.upgrade(VARIANTS["default"], {"gateway": {"replicas": 3}})
        keys = parse_keys(base64.b64decode(cluster.get(path)["data"]["keys"]).decode())
        assert (find_owner(keys, key), find_owner(keys, "her own")) == ("default", "alice")
        assert cluster.get(path)["data"]["key"] == made["key"]
        release.uninstall()
        assert cluster.find(path) is None


def test_the_chart_s_own_secret_is_not_given_to_it(cluster: Cluster) -> None:
    """helm would delete what the chart no longer makes, and with it every key."""
    given = {"gateway": {"apiKeys": {"existingSecret": "trenza-api-keys"}}}
    with cluster.namespace("given") as namespace:
        release = Release(cluster, namespace).install(VARIANTS["default"])
        path = release.path("secrets", "trenza-api-keys", group="v1")
        made = cluster.get(path)["data"]
        with pytest.raises(AssertionError, match="make one of another name"):
            release.upgrade(given)
        assert cluster.get(path)["data"] == made
        release.uninstall()

        cluster.create(
            release.path("secrets", group="v1"), {"metadata": {"name": "trenza-api-keys"}, "data": {"keys": ""}}
        )
        release.install(given)
        release.uninstall()
        assert cluster.find(path) is not None
