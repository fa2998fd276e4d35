"""A node whose pods run: what the chart puts into a container is started as a process of this machine.

It does what a kubelet does as far as the mesh can tell: environment from fields, Secrets and ConfigMaps, mounted Secrets, gRPC
probes (oftener than asked), SIGTERM at deletion, SIGKILL at the end of the grace period, and the pod is gone when its process is.
It has no containers: every pod has a loopback address of its own instead of a network namespace, 127.n.x.y for the pod address
10.n.x.y.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import grpc
import httpx
from cluster.lab.addresses import local
from cluster.lab.children import Child
from cluster.lab.cluster import Cluster, Object
from cluster.lab.nodes import NODES, ROOM
from cluster.lab.services import ServiceNetwork
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh import STARTER_MODELS

PODS = "/api/v1/pods"
IMAGE_MODELS = "/opt/trenza/models/starter"
PROBE_EVERY_S = 0.25
REMOUNT_EVERY_S = 1.0
LEASE_EVERY_S = 10.0
WATCH_S = 3.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
RUNS_PROCESSES = "trenza.test/runs-processes"
PLACE = {
    "nodeSelector": {RUNS_PROCESSES: "true"},
    "tolerations": [{"key": RUNS_PROCESSES, "operator": "Exists", "effect": "NoSchedule"}],
}
"""What values of a part say to have its pods run here; everything else keeps away."""


class LocalKubelet:
    """The nodes `names`, and the processes of the pods that are bound to them."""

    def __init__(self, cluster: Cluster, network: ServiceNetwork, folder: Path, *names: str) -> None:
        self.cluster, self.network, self.folder, self.names = cluster, network, folder, names
        self.pods: dict[str, LocalPod] = {}
        self.troubles: list[str] = []
        self._stopping = threading.Event()
        self._count = 0
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._follow_pods, self._renew_leases)]

    def start(self) -> LocalKubelet:
        for number, name in enumerate(self.names):
            self.cluster.create(NODES, _node(name, zone=f"zone-{number % 2}"))
            self.cluster.patch(f"{NODES}/{name}/status", {"status": _node_status()})
            self.cluster.create(LEASES, {"metadata": {"name": name}, "spec": _lease(name)})
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Ends every process, and the nodes with their pods."""
        self._stopping.set()
        for pod in list(self.pods.values()):
            pod.kill()
        for thread in self._threads:
            thread.join(60)
        for name in self.names:
            self.cluster.delete(f"{NODES}/{name}")

    def _follow_pods(self) -> None:
        while not self._stopping.is_set():
            for known in self.cluster.watch(PODS, WATCH_S):
                if self._stopping.is_set():
                    return
                bound = [pod for pod in known.values() if pod["spec"].get("nodeName") in self.names]
                for pod in bound:
                    self._sync(pod)
                for uid in self.pods.keys() - {pod["metadata"]["uid"] for pod in bound}:
                    self.pods[uid].delete(0)  # it was deleted by force, or is gone already

    def _sync(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self.pods:
            self._count += 1
            self.pods[uid] = LocalPod(self, pod, self.network.pod_address(self._count))
            self.pods[uid].start()
        if pod["metadata"].get("deletionTimestamp"):
            self.pods[uid].delete(pod["metadata"].get("deletionGracePeriodSeconds", 30))

    def _renew_leases(self) -> None:
        while not self._stopping.wait(LEASE_EVERY_S):
            for name in self.names:
                with contextlib.suppress(httpx.TransportError):
                    self.cluster.patch(f"{LEASES}/{name}", {"spec": _lease(name)})


class LocalPod:
    """One pod of one container, run by a thread from its start to its end."""

    def __init__(self, kubelet: LocalKubelet, pod: Object, address: str) -> None:
        self.name, self.namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self._kubelet, self._pod, self._address = kubelet, pod, address
        self.local_address = local(address)
        self.folder = kubelet.folder / f"{self.name}-{pod['metadata']['uid'][:8]}"
        self.restarts = 0
        self.served = False
        self.exit_code: int | None = None  # of the process; negative: the signal that ended it
        self._child: Child | None = None
        self._ready = self._started = False
        self._deleted = threading.Event()
        self._grace_s = 30.0
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        self._thread.start()

    def delete(self, grace_s: float) -> None:
        """The API server was told to delete the pod; a second order may shorten its grace period."""
        self._grace_s = min(self._grace_s, grace_s) if self._deleted.is_set() else grace_s
        self._deleted.set()

    def kill(self) -> None:
        """Ends the process at once, without the API server."""
        self._grace_s = 0
        self._deleted.set()
        self._thread.join(60)

    @property
    def log(self) -> str:
        return self._child.log if self._child else ""

    def _run(self) -> None:
        try:
            self._live()
        except Exception as error:
            self._kubelet.troubles.append(f"{self.name}: {error!r}")
            raise
        finally:
            if self._child is not None:
                self._child.stop(0)  # whatever went wrong, no process is left

    def _live(self) -> None:
        self._child = self._start_container()
        self._tell("Running")
        looked_at = time.monotonic()
        while not self._deleted.is_set():
            if self._child.popen.poll() is not None:
                if self._pod["spec"]["restartPolicy"] == "Never":
                    self._complete(self._child)
                    return
                self.restarts += 1
                self._started = self._ready = False
                self._child = self._start_container()
            before = (self._started, self._ready, self.restarts)
            self._started = self._started or self._probed("startupProbe")
            self._ready = self._started and self._probed("readinessProbe")
            self.served = self.served or self._ready
            if before != (self._started, self._ready, self.restarts):
                self._tell("Running")
            if time.monotonic() - looked_at > REMOUNT_EVERY_S:
                with contextlib.suppress(AssertionError):  # a Secret may be gone before the pod is, and its files stay
                    self._mount()
                looked_at = time.monotonic()
            self._deleted.wait(PROBE_EVERY_S)
        self._end(self._child)

    def _complete(self, child: Child) -> None:
        """A pod that runs once has its result, and stays until it is deleted."""
        self.exit_code = child.popen.returncode
        self._ready = False
        self._tell("Failed" if self.exit_code else "Succeeded")
        self._deleted.wait()
        self._end(child)

    def _end(self, child: Child) -> None:
        """preStop, SIGTERM, the grace period, and word to the API server that the pod may go."""
        begun = time.monotonic()
        hook = self._container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if self._grace_s:
            time.sleep(min(hook, self._grace_s))
        self.exit_code = child.stop(max(0.0, self._grace_s - (time.monotonic() - begun)))
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        with contextlib.suppress(httpx.TransportError, AssertionError):  # it may have been deleted by force
            preconditions = {"uid": self._pod["metadata"]["uid"]}
            self._kubelet.cluster.delete(path, gracePeriodSeconds=0, preconditions=preconditions)

    def _probed(self, name: str) -> bool:
        """What a gRPC probe of the container says; without one all is well."""
        probe = self._container.get(name)
        if probe is None:
            return True
        with grpc.insecure_channel(f"{self.local_address}:{probe['grpc']['port']}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            asked = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
            try:
                answer = stub.Check(asked, timeout=probe["timeoutSeconds"])
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _tell(self, phase: str) -> None:
        """The pod's status as the API server is to know it."""
        now = _now()
        ended = {"terminated": {"exitCode": self.exit_code or 0, "startedAt": now, "finishedAt": now}}
        conditions = {
            "PodReadyToStartContainers": True,
            "Initialized": True,
            "ContainersReady": self._ready,
            "Ready": self._ready,
        }
        container = {
            "name": self._container["name"],
            "image": self._container["image"],
            "imageID": "",
            "ready": self._ready,
            "started": self._started,
            "restartCount": self.restarts,
            "state": {"running": {"startedAt": now}} if phase == "Running" else ended,
        }
        told = {
            "phase": phase,
            "startTime": now,
            "hostIP": "10.255.255.1",
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "containerStatuses": [container],
            "conditions": [
                *(
                    {"type": kind, "status": str(value), "lastTransitionTime": now}
                    for kind, value in conditions.items()
                ),
                *(each for each in self._pod["status"].get("conditions") or () if each["type"] == "PodScheduled"),
            ],
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/status"
        with contextlib.suppress(AssertionError):  # it may be gone
            self._kubelet.cluster.patch(path, {"status": told})

    # What runs

    @property
    def _container(self) -> Object:
        """Pods of several containers are not run here."""
        (container,) = self._pod["spec"]["containers"]
        return dict(container)

    def _start_container(self) -> Child:
        assert not self._pod["spec"].get("initContainers"), "init containers are not run here"
        component = self._pod["metadata"]["labels"]["app.kubernetes.io/component"]
        mounts = self._mount()
        environment = {name: self._place(value, mounts) for name, value in self._environment().items()}
        # The images' entry point, unless the pod brings a command of its own.
        command = self._container.get("command") or ["python", "-m", f"trenza_{component}"]
        command = [sys.executable if word == "python" else self._place(word, mounts) for word in command]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TRENZA_")}
        own = {"OMP_NUM_THREADS": "1", **({"TMPDIR": str(mounts["/tmp"])} if "/tmp" in mounts else {})}
        return Child(
            self.name, command, self.folder, {**inherited, **_image_environment(component), **environment, **own}
        )

    def _mount(self) -> Mapping[str, Path]:
        """The folder of each mounted volume by its path in the container."""
        volumes = {volume["name"]: volume for volume in self._pod["spec"]["volumes"]}
        mounts = {}
        for mount in self._container["volumeMounts"]:
            folder = self.folder / mount["name"]
            folder.mkdir(exist_ok=True)
            _publish(folder, self._content(volumes[mount["name"]]))
            mounts[mount["mountPath"]] = folder
        return mounts

    def _content(self, volume: Object) -> Mapping[str, bytes]:
        if secret := volume.get("secret"):
            data = {key: base64.b64decode(value) for key, value in self._data("secrets", secret["secretName"]).items()}
            paths = {item["key"]: item["path"] for item in secret.get("items") or ()}
            return {paths.get(key, key): value for key, value in data.items() if not paths or key in paths}
        if given := volume.get("configMap"):
            return {key: value.encode() for key, value in self._data("configmaps", given["name"]).items()}
        assert "emptyDir" in volume, f"volumes like this are not mounted here: {volume}"
        return {}

    def _data(self, kind: str, name: str) -> Mapping[str, str]:
        return dict(self._kubelet.cluster.get(f"/api/v1/namespaces/{self.namespace}/{kind}/{name}").get("data") or {})

    def _environment(self) -> Mapping[str, str]:
        """The container's environment, `$(NAME)` expanded."""
        found: dict[str, str] = {}
        for entry in self._container.get("env") or ():
            value = entry.get("value", "") if "valueFrom" not in entry else self._read(entry["valueFrom"])
            found[entry["name"]] = re.sub(
                r"\$\((\w+)\)", lambda match: found.get(match.group(1), match.group(0)), value
            )
        return found

    def _read(self, source: Object) -> str:
        match source:
            case {"fieldRef": {"fieldPath": "status.podIP"}}:
                return self.local_address
            case {"fieldRef": {"fieldPath": "metadata.name"}}:
                return self.name
            case {"secretKeyRef": {"name": name, "key": key}}:
                return base64.b64decode(self._data("secrets", name)[key]).decode()
            case {"resourceFieldRef": {"resource": resource}}:
                return str(self._container["resources"]["limits"][resource.removeprefix("limits.")])
        raise AssertionError(f"environment like this is not read here: {source}")

    def _place(self, value: str, mounts: Mapping[str, Path]) -> str:
        """A value in which paths, addresses and names of the container are those of this machine."""
        if value == "0.0.0.0":
            return self.local_address
        for path, folder in sorted(mounts.items(), reverse=True):
            if value == path or value.startswith(f"{path}/"):
                return f"{folder}{value.removeprefix(path)}"
        if value.startswith(IMAGE_MODELS):
            return str(STARTER_MODELS)
        return self._kubelet.network.resolve(value, self.namespace)


def _publish(folder: Path, content: Mapping[str, bytes]) -> None:
    """Puts files into a mounted folder as a kubelet does: all of them change at once, by the swap of one link."""
    present = {path.name: path.read_bytes() for path in (folder / "..data").glob("*")}
    if present == content:
        return
    fresh = folder / f"..{time.time_ns()}"
    fresh.mkdir()
    for name, data in content.items():
        (fresh / name).write_bytes(data)
    (folder / "..new").symlink_to(fresh.name)
    (folder / "..new").replace(folder / "..data")
    for name in content:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data", name))


def _image_environment(component: str) -> Mapping[str, str]:
    """What images set; of several processes on few cores each gets one thread."""
    if component not in ("chat", "audio", "vision", "images"):
        return {}
    prefix = f"TRENZA_{component.upper()}"
    return {f"{prefix}_MODELS_ROOT": str(STARTER_MODELS), f"{prefix}_THREADS": "1"}


def _node(name: str, zone: str) -> Object:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": zone}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**labels, RUNS_PROCESSES: "true"}},
        "spec": {"taints": [{"key": RUNS_PROCESSES, "value": "true", "effect": "NoSchedule"}]},
    }


def _node_status() -> Object:
    now = _now()
    ready = {"type": "Ready", "status": "True", "reason": "LocalKubelet", "message": "processes of this machine"}
    conditions = [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}]
    return {"capacity": ROOM, "allocatable": ROOM, "conditions": conditions}


def _lease(name: str) -> Object:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
