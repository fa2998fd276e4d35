"""A real Prometheus that reads what the chart's ServiceMonitors name, and a real prometheus-adapter with the chart's rules."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from cluster.lab.addresses import local
from cluster.lab.children import Child
from cluster.lab.cluster import Object
from cluster.lab.network import matches
from cluster.lab.programs import program
from cluster.lab.running import RunningMesh
from mesh import eventually, free_port

SCRAPE_S = 1
WATCH_S = 3.0
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
EXTERNAL_METRICS = "external.metrics.k8s.io"
VALUES: Object = {"monitoring": {"serviceMonitors": {"enabled": True}, "adapterRules": {"enabled": True}}}
"""What the chart must be installed with."""


class Monitoring:
    """Prometheus and prometheus-adapter beside a mesh. The adapter serves `external.metrics.k8s.io` to the whole cluster."""

    def __init__(self, mesh: RunningMesh) -> None:
        self.mesh, self.cluster = mesh, mesh.cluster
        self.folder = mesh.kubelet.folder / "monitoring"
        self.folder.mkdir()
        self.prometheus_url = f"http://127.0.0.1:{free_port()}"
        self._children: list[Child] = []
        self._stopping = threading.Event()
        self._finding = threading.Thread(target=self._find_targets, daemon=True)

    def start(self) -> Monitoring:
        self._finding.start()
        self._start_prometheus()
        self._register_adapter(self._start_adapter())
        return self

    def stop(self) -> None:
        self.cluster.delete(f"{API_SERVICES}/v1beta1.{EXTERNAL_METRICS}")
        self._stopping.set()
        for child in reversed(self._children):
            child.stop()
        self._finding.join(60)

    def query(self, expression: str) -> dict[str, float]:
        """What Prometheus answers, by the label `model`."""
        answer = httpx.get(f"{self.prometheus_url}/api/v1/query", params={"query": expression}, timeout=10).json()
        return {row["metric"].get("model", ""): float(row["value"][1]) for row in answer["data"]["result"]}

    def demand(self, model: str) -> list[str]:
        """The values of the external metric that an HPA would see for a model of chat."""
        path = f"/apis/{EXTERNAL_METRICS}/v1beta1/namespaces/{self.mesh.release.namespace}/trenza_demand_slots"
        answer = self.cluster.http.get(path, params={"labelSelector": f"modality=chat,model={model}"})
        return [item["value"] for item in answer.json()["items"]] if answer.is_success else []

    def _start_prometheus(self) -> None:
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"},
            "scrape_configs": [_job(monitor, self.folder) for monitor in self._monitors()],
        }
        path = self.folder / "prometheus.json"
        path.write_text(json.dumps(config))
        self._run(
            "prometheus",
            f"--config.file={path}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.prometheus_url.removeprefix('http://')}",
        )
        eventually(self._prometheus_ready, 60, every_s=0.2)

    def _prometheus_ready(self) -> bool:
        self._children[0].assert_alive()
        try:
            return httpx.get(f"{self.prometheus_url}/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _start_adapter(self) -> int:
        assert self.cluster.plane is not None
        name = f"adapter.{self.mesh.release.namespace}.svc"
        certificate, key = self.cluster.plane.authority.issue("adapter", hosts=[name])
        rules = self.cluster.get(self.mesh.release.path("configmaps", "trenza-prometheus-adapter", group="v1"))
        config = self.folder / "adapter.yaml"
        config.write_text(rules["data"]["config.yaml"])
        port, kubeconfig = free_port(), self.cluster.kubeconfig
        self._run(
            "prometheus-adapter",
            f"--config={config}",
            f"--prometheus-url={self.prometheus_url}",
            f"--metrics-relist-interval={3 * SCRAPE_S}s",
            f"--lister-kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
        )
        return port

    def _register_adapter(self, port: int) -> None:
        """As prometheus-adapter's own chart does, but that its Service leads out of the cluster."""
        assert self.cluster.plane is not None
        namespace = self.mesh.release.namespace
        authority = base64.b64encode(self.cluster.plane.authority.cert_path.read_bytes()).decode()
        service = {"name": "adapter", "namespace": namespace}
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": service,
                "spec": {"type": "ExternalName", "externalName": "localhost"},
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"v1beta1.{EXTERNAL_METRICS}"},
                "spec": {
                    "group": EXTERNAL_METRICS,
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "service": {**service, "port": port},
                    "caBundle": authority,
                },
            },
        )
        self.cluster.kubectl(
            "wait", "--for=condition=Available", f"apiservice/v1beta1.{EXTERNAL_METRICS}", "--timeout=90s"
        )

    def _run(self, name: str, *arguments: str) -> None:
        self._children.append(Child(name, [program(name), *arguments], self.folder))

    def _find_targets(self) -> None:
        """Does for the file of targets what the Prometheus operator does for Prometheus."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.mesh.release.namespace}/endpointslices"
        while not self._stopping.is_set():
            for known in self.cluster.watch(path, WATCH_S):
                if self._stopping.is_set():
                    return
                services = self.cluster.items(self.mesh.release.path("services", group="v1"))
                for monitor in self._monitors():
                    selector = monitor["spec"]["selector"]
                    chosen = [each for each in services if matches(selector, each["metadata"].get("labels", {}))]
                    targets = [target for service in chosen for target in _targets(monitor, service, known)]
                    _replace(_targets_file(monitor, self.folder), json.dumps(targets))

    def _monitors(self) -> list[Object]:
        return self.cluster.items(self.mesh.release.path("servicemonitors", group="monitoring.coreos.com/v1"))


def _job(monitor: Object, folder: Path) -> Object:
    """A ServiceMonitor as a job of Prometheus."""
    (endpoint,) = monitor["spec"]["endpoints"]
    return {
        "job_name": monitor["metadata"]["name"],
        "file_sd_configs": [{"files": [str(_targets_file(monitor, folder))], "refresh_interval": "1s"}],
        "relabel_configs": [_snake_case(rule) for rule in endpoint.get("relabelings") or ()],
        "metric_relabel_configs": [_snake_case(rule) for rule in endpoint.get("metricRelabelings") or ()],
    }


def _snake_case(rule: Object) -> Object:
    """The operator writes `sourceLabels` where Prometheus writes `source_labels`."""
    return {re.sub(r"[A-Z]", lambda match: f"_{match.group().lower()}", key): value for key, value in rule.items()}


def _targets_file(monitor: Object, folder: Path) -> Path:
    return folder / f"targets-{monitor['metadata']['name']}.json"


def _targets(monitor: Object, service: Object, slices: dict[str, Object]) -> Iterator[Object]:
    """The endpoints of a Service with the labels that the operator gives them."""
    (wanted,) = monitor["spec"]["endpoints"]
    metadata = service["metadata"]
    meta = {
        re.sub(r"\W", "_", f"__meta_kubernetes_service_label_{key}"): value for key, value in metadata["labels"].items()
    }
    own = [
        each for each in slices.values() if each["metadata"]["labels"]["kubernetes.io/service-name"] == metadata["name"]
    ]
    for piece in own:
        numbers = [port["port"] for port in piece.get("ports") or () if port["name"] == wanted["port"]]
        for endpoint in filter(_is_process, piece.get("endpoints") or ()):
            labels = {
                **meta,
                "namespace": metadata["namespace"],
                "service": metadata["name"],
                "job": metadata["name"],
                "endpoint": wanted["port"],
                "pod": endpoint["targetRef"]["name"],
            }
            address = local(endpoint["addresses"][0])
            yield from ({"targets": [f"{address}:{number}"], "labels": labels} for number in numbers)


def _is_process(endpoint: Object) -> bool:
    """Pods that KWOK pretends have addresses of 10.0.0.0/24, where nothing listens."""
    return not endpoint["addresses"][0].startswith("10.0.0.")


def _replace(path: Path, text: str) -> None:
    """Writes a file so that nobody reads half of it."""
    begun = path.with_suffix(".new")
    begun.write_text(text)
    begun.replace(path)


@contextmanager
def monitored(mesh: RunningMesh) -> Iterator[Monitoring]:
    """Prometheus and prometheus-adapter, gone afterwards."""
    monitoring = Monitoring(mesh)
    try:
        yield monitoring.start()
    finally:
        monitoring.stop()
