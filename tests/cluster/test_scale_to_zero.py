"""A pool goes to zero and comes back for a request, by the interface through which KEDA asks; a stand-in plays KEDA's part."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cluster.lab.cluster import Cluster, Object
from cluster.lab.keda import KedaStandIn
from cluster.lab.running import MODEL, RunningMesh, ask, running_mesh
from mesh import eventually

POOL = "trenza-pool-chat"
TO_ZERO: Object = {
    "autoscaling": {"mode": "keda"},
    "gateway": {"replicas": 1},
    "scheduler": {"env": {"TRENZA_SCHEDULER_ACTIVITY_HOLD_S": 2}},
    "pools": {"chat": {"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}},
}


@pytest.fixture(scope="module")
def mesh(lab: Cluster) -> Iterator[RunningMesh]:
    with running_mesh(lab, "to-zero", TO_ZERO) as started:
        yield started


def test_nobody_asks_then_somebody_does_then_nobody(mesh: RunningMesh) -> None:
    with KedaStandIn(mesh, POOL, cooldown_s=4) as keda, mesh.client() as client:
        mesh.await_pods("chat", 0)
        assert keda.replicas() == 0
        keda.pushes.clear()
        assert MODEL in [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert client.get("/readyz").status_code == 200

        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(ask(client, MODEL)))
        asking.start()
        eventually(lambda: keda.replicas() >= 1, 60, every_s=0.1)
        asking.join(120)
        assert answers == [""]
        assert True in keda.pushes
        (served,) = mesh.pods("chat")

        mesh.await_pods("chat", 0)
        eventually(lambda: served.exit_code is not None, 60)
        assert served.exit_code == 0
        assert keda.scaled[-3:] == [0, 1, 0]
        assert keda.troubles == []
