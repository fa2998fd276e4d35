"""Fixtures of the control-plane tier, which `make test-cluster` runs and a plain `pytest` leaves alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.lab.cluster import Cluster
from cluster.lab.control_plane import ControlPlane
from cluster.lab.nodes import add_nodes, fake_node
from cluster.lab.programs import CONTROL_PLANE, program

TEST_LIMIT_S = 420


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """This tier takes a control plane and minutes, so it runs when it is named."""
    return None if any("cluster" in argument for argument in config.args) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_LIMIT_S))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG if that is set, else a control plane of this run's own."""
    program("helm")
    folder = tmp_path_factory.mktemp("cluster")
    if given := os.environ.get("KUBECONFIG"):
        reached = Cluster(Path(given), folder)
        yield reached
        reached.close()
        return
    for name in CONTROL_PLANE:
        program(name)
    plane = ControlPlane(folder)
    try:
        plane.start()
        made = Cluster(plane.kubeconfig, folder, plane)
        try:
            _furnish(made)
            yield made
        finally:
            made.close()
    finally:
        plane.stop()
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def _furnish(cluster: Cluster) -> None:
    """Ordinary nodes in two zones, and the kinds of foreign objects that the chart makes."""
    add_nodes(cluster, *(fake_node(f"cpu-{number}", zone=f"zone-{number % 2}") for number in range(4)))
    cluster.kubectl("apply", "--server-side", "-f", str(program("crds")))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


@pytest.fixture(scope="session")
def lab(cluster: Cluster) -> Cluster:
    """A cluster whose nodes and processes are the test's own."""
    if cluster.plane is None:
        pytest.skip("KUBECONFIG is set: this needs nodes and processes of the laboratory's own")
    return cluster
