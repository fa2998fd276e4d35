"""The mesh as the chart installs it with certificates of a Secret: it answers, and follows the Secret when that is renewed."""

from __future__ import annotations

import base64
import ssl

import grpc
import pytest
from cluster.lab.cluster import Cluster, Object
from cluster.lab.running import Load, running_mesh
from mesh import eventually
from mesh_certificates import ALL_ROLES, Authority, Leaf
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
        renewed = authority.roles(*ALL_ROLES)
        lab.apply(_secret(authority, mesh.release.namespace, renewed))
        servers = [
            (pod.local_address, port) for port, name in ((9091, "scheduler"), (9092, "chat")) for pod in mesh.pods(name)
        ]
        wanted = renewed.certificate.decode().strip()
        eventually(lambda: all(ssl.get_server_certificate(each).strip() == wanted for each in servers), 60, every_s=0.5)
        (gateway,) = mesh.pods("gateway")
        eventually(lambda: "the certificate was renewed" in gateway.log, 60, every_s=0.5)
        load.await_answers(10)
        assert [(pod.restarts, pod.exit_code) for pod in pods] == [(0, None)] * len(pods)
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


def _secret(authority: Authority, namespace: str, leaf: Leaf | None = None) -> Object:
    leaf = leaf or authority.roles(*ALL_ROLES)
    files = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.pem}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
