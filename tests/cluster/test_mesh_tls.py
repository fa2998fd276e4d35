"""The mesh as the chart installs it with certificates of a Secret: it answers, and follows the Secret when that is renewed."""

from __future__ import annotations

import base64

import grpc
import pytest
from cluster.lab.cluster import Cluster, Object
from cluster.lab.running import Load, running_mesh
from mesh import eventually
from mesh_certificates import ALL_ROLES, Authority
from trenza.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc

SECRET = "mesh-certificate"
WITH_SECRET: Object = {"gateway": {"replicas": 1}, "mtls": {"enabled": True, "mode": "secret", "secretName": SECRET}}


def test_a_renewed_certificate_is_taken_up_without_a_lost_request(lab: Cluster) -> None:
    authority = Authority()

    def prepare(namespace: str) -> None:
        lab.apply(_secret(authority, namespace))

    with running_mesh(lab, "tls", WITH_SECRET, prepare=prepare) as mesh, Load(mesh, clients=2) as load:
        pods = [pod for component in ("gateway", "scheduler", "chat") for pod in mesh.pods(component)]
        assert all("mTLS is ON" in pod.log for pod in pods)
        load.await_answers(5)
        lab.apply(_secret(authority, mesh.release.namespace))
        gone, stays = mesh.pods("chat")
        lab.delete(mesh.release.path("pods", gone.name, group="v1"))  # its successor is met with new handshakes
        eventually(
            lambda: all("the certificate was renewed" in pod.log for pod in pods if pod is not gone), 60, every_s=0.5
        )
        mesh.await_pods("chat", 2)
        load.await_answers(10)
        assert (stays.restarts, stays.exit_code) == (0, None)
    assert load.failures == {}


def test_a_peer_without_a_certificate_is_refused(lab: Cluster) -> None:
    authority = Authority()
    with running_mesh(
        lab, "tls-refused", WITH_SECRET, prepare=lambda name: lab.apply(_secret(authority, name))
    ) as mesh:
        (scheduler,) = mesh.pods("scheduler")
        with grpc.insecure_channel(f"{scheduler.local_address}:9091") as channel:
            stub = scheduler_pb2_grpc.SchedulerServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetSnapshot(scheduler_pb2.GetSnapshotRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def _secret(authority: Authority, namespace: str) -> Object:
    leaf = authority.roles(*ALL_ROLES)
    files = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
