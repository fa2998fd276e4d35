"""A real Kubernetes control plane on loopback: etcd, API server, controller manager, scheduler, and KWOK for the nodes."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from cluster.lab.addresses import Loopback
from cluster.lab.certificates import Authority, key_pair
from cluster.lab.children import Child
from cluster.lab.programs import program
from mesh import eventually, free_port

START_LIMIT_S = 120.0
HPA_SYNC_S = 2
FAKE_NODE = "kwok.x-k8s.io/node=fake"
FRONT_PROXY = "front-proxy"


class ControlPlane:
    """The programs and their credentials; `kubeconfig` is an administrator's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pki = folder / "pki"
        self.pki.mkdir(parents=True)
        self.authority = Authority(self.pki, "kubernetes-ca")
        self.front_proxy_authority = Authority(self.pki, "front-proxy-ca")
        self.token_keys = key_pair(self.pki, "service-accounts")
        self.loopback = Loopback()
        self.port = free_port()
        self.children: list[Child] = []
        self.kubeconfig = self.kubeconfig_of("admin", "system:masters")

    def start(self) -> ControlPlane:
        """Starts everything and returns when the API server says that it is ready."""
        etcd = self._start_etcd()
        self._start_api_server(etcd)
        self._await_ready()
        self._start_controllers()
        self._start_kwok()
        return self

    def stop(self) -> None:
        """Ends every program, the last first."""
        for child in reversed(self.children):
            child.stop()
        self.loopback.close()

    def kubeconfig_of(self, user: str, *groups: str) -> Path:
        """A kubeconfig with a client certificate of that user."""
        name = user.replace(":", "-")
        certificate, key = self.authority.issue(user, groups, file=f"client-{name}")
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.url, "certificate-authority": self._ca}}],
            "users": [{"name": "lab", "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        return path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def _ca(self) -> str:
        return str(self.authority.cert_path)

    def _run(self, name: str, *positional: str, **flags: Any) -> Child:
        arguments = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        child = Child(name, [program(name), *positional, *arguments], self.folder)
        self.children.append(child)
        return child

    def _start_etcd(self) -> str:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run(
            "etcd",
            "--unsafe-no-fsync",
            data_dir=self.folder / "etcd",
            listen_client_urls=client,
            advertise_client_urls=client,
            listen_peer_urls=peer,
            initial_advertise_peer_urls=peer,
            initial_cluster=f"default={peer}",
        )
        return client

    def _start_api_server(self, etcd: str) -> None:
        hosts = ("127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1")
        certificate, key = self.authority.issue("kube-apiserver", hosts=hosts)
        proxy_certificate, proxy_key = self.front_proxy_authority.issue(FRONT_PROXY)
        signing_key, public_key = self.token_keys
        self._run(
            "kube-apiserver",
            etcd_servers=etcd,
            bind_address="127.0.0.1",
            advertise_address="127.0.0.1",
            secure_port=self.port,
            tls_cert_file=certificate,
            tls_private_key_file=key,
            client_ca_file=self._ca,
            authorization_mode="Node,RBAC",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=public_key,
            service_account_signing_key_file=signing_key,
            service_cluster_ip_range="10.96.0.0/16",
            # Endpoints must not be loopback addresses, and nothing here asks for the Service `kubernetes`.
            endpoint_reconciler_type="none",
            allow_privileged="true",
            requestheader_client_ca_file=self.front_proxy_authority.cert_path,
            requestheader_allowed_names=FRONT_PROXY,
            requestheader_extra_headers_prefix="X-Remote-Extra-",
            requestheader_group_headers="X-Remote-Group",
            requestheader_username_headers="X-Remote-User",
            proxy_client_cert_file=proxy_certificate,
            proxy_client_key_file=proxy_key,
            cert_dir=self.pki,
        )

    def _await_ready(self) -> None:
        trust = ssl.create_default_context(cafile=self._ca)

        def ready() -> bool:
            for child in self.children:
                child.assert_alive()
            try:
                return httpx.get(f"{self.url}/readyz", verify=trust).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        eventually(ready, START_LIMIT_S, every_s=0.2)

    def _start_controllers(self) -> None:
        manager = self._credentials("kube-controller-manager")
        self._run(
            "kube-controller-manager",
            **manager,
            service_account_private_key_file=self.token_keys[0],
            root_ca_file=self._ca,
            use_service_account_credentials="true",
            # Tests look at what is decided, not at how seldom it is looked at.
            horizontal_pod_autoscaler_sync_period=f"{HPA_SYNC_S}s",
        )
        self._run("kube-scheduler", **self._credentials("kube-scheduler"))

    def _credentials(self, name: str) -> Mapping[str, Any]:
        kubeconfig = self.kubeconfig_of(f"system:{name}")
        return {
            "kubeconfig": kubeconfig,
            "authentication_kubeconfig": kubeconfig,
            "authorization_kubeconfig": kubeconfig,
            "bind_address": "127.0.0.1",
            "secure_port": free_port(),
            "cert_dir": self.folder / name,
            "leader_elect": "false",
        }

    def _start_kwok(self) -> None:
        self._run(
            "kwok",
            kubeconfig=self.kubeconfig_of("kwok", "system:masters"),
            manage_nodes_with_annotation_selector=FAKE_NODE,
            node_lease_duration_seconds=40,
            config=Path(__file__).with_name("stages.yaml"),
        )
