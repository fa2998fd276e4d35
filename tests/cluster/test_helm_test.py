"""`helm test` examines the starter models of every modality in an installed mesh, here with real processes for all its pods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.lab.cluster import Cluster, Object
from cluster.lab.kubelet import PLACE, LocalKubelet
from cluster.lab.nodes import NODES
from cluster.lab.running import running_mesh

EXAM_LIMIT_S = 300
ONE_OF_EACH: Object = {
    "gateway": {"replicas": 1},
    "pools": {
        name: {"enabled": True, "replicas": 1, "env": {f"TRENZA_{name.upper()}_THREADS": 2}, **PLACE}
        for name in ("chat", "audio", "vision", "images")
    },
    "tests": {"timeoutSeconds": EXAM_LIMIT_S},
}


def test_the_exam_is_passed(lab: Cluster) -> None:
    with running_mesh(lab, "exam", ONE_OF_EACH) as mesh, _only_processes(lab, mesh.kubelet):
        said = mesh.release.test(EXAM_LIMIT_S + 60)
        assert "Succeeded" in said, said
        (exam,) = [pod for pod in mesh.kubelet.pods.values() if pod.name == "trenza-exam"]
        assert exam.exit_code == 0


@contextmanager
def _only_processes(lab: Cluster, kubelet: LocalKubelet) -> Iterator[None]:
    """No node but those whose pods run: the pod of the exam asks for none in particular."""
    fakes = [node["metadata"]["name"] for node in lab.items(NODES) if node["metadata"]["name"] not in kubelet.names]
    lab.kubectl("cordon", *fakes)
    for name in kubelet.names:
        lab.patch(f"{NODES}/{name}", {"spec": {"taints": None}})
    try:
        yield
    finally:
        lab.kubectl("uncordon", *fakes)
