"""The mesh as the chart installs it, with real processes for its pods, and clients that ask it without a pause."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cluster.lab.cluster import Cluster, Object, condition_of
from cluster.lab.kubelet import PLACE, LocalKubelet, LocalPod
from cluster.lab.release import Release
from cluster.lab.services import ServiceNetwork
from mesh import eventually

MODEL = "starter-chat"
QUESTION = [{"role": "user", "content": "What is 7 + 5?"}]
ANSWER_LIMIT_S = 120.0
MESH: Object = {
    "gateway": {"replicas": 2, "drainSeconds": 60, **PLACE},
    "scheduler": {**PLACE},
    "pools": {
        "chat": {"replicas": 2, "drainSeconds": 60, "env": {"TRENZA_CHAT_THREADS": 1}, **PLACE},
        "audio": {"enabled": False},
        "vision": {"enabled": False},
        "images": {"enabled": False},
    },
}
"""Two gateways and two replicas of chat, as processes."""


class RunningMesh:
    """An installed release whose pods are processes; `url` is the gateway's Service."""

    def __init__(self, release: Release, kubelet: LocalKubelet, network: ServiceNetwork) -> None:
        self.release, self.kubelet, self.network = release, kubelet, network
        self.cluster = release.cluster
        self.url = f"http://{network.address('trenza-gateway')}:8080"
        secret = self.cluster.get(release.path("secrets", "trenza-api-keys", group="v1"))
        self.key = base64.b64decode(secret["data"]["key"]).decode()

    def await_model(self, name: str = MODEL) -> None:
        """Waits until a request for a model is answered."""

        def answered() -> bool:
            assert not self.kubelet.troubles
            return ask(client, name) == ""

        with self.client() as client:
            eventually(answered, 120, every_s=0.5)

    def client(self, **options: Any) -> httpx.Client:
        """A client with the key that the chart made."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=ANSWER_LIMIT_S, **options)

    def pods(self, component: str) -> list[LocalPod]:
        """The processes of a component's pods that are there now."""
        selector = f"app.kubernetes.io/component={component}"
        found = self.cluster.items(self.release.path("pods", group="v1"), labelSelector=selector)
        uids = [pod["metadata"]["uid"] for pod in found if pod["spec"].get("nodeName") in self.kubelet.names]
        return [self.kubelet.pods[uid] for uid in uids if uid in self.kubelet.pods]

    def await_rolled_out(self, name: str, limit_s: float = 180.0) -> None:
        """Waits until a Deployment has all its pods ready and none but those of its newest revision, old ones gone."""
        self.cluster.wait(
            self.release.path("deployments"), lambda known: rolled_out(known[self.release.key(name)]), limit_s
        )

    def await_settled(self) -> None:
        """Waits until nothing of an earlier change is under way."""
        for component in ("chat", "gateway", "scheduler"):
            self.await_pods(component, 1 if component == "scheduler" else 2)

    def await_pods(self, component: str, count: int, limit_s: float = 180.0) -> None:
        """Waits until a component has so many pods, all ready, and none that is ending."""

        def settled(known: dict[str, Object]) -> bool:
            ending = [pod for pod in known.values() if "deletionTimestamp" in pod["metadata"]]
            ready = [pod for pod in known.values() if condition_of(pod, "Ready") == "True"]
            return not ending and len(ready) == len(known) == count

        selector = f"app.kubernetes.io/component={component}"
        self.cluster.wait(self.release.path("pods", group="v1"), settled, limit_s, labelSelector=selector)


@contextmanager
def running_mesh(
    cluster: Cluster, purpose: str, *values: Object | Path, prepare: Callable[[str], None] = lambda _namespace: None
) -> Iterator[RunningMesh]:
    """The chart installed with `MESH` and more values, its processes started, everything gone afterwards.

    `prepare` makes in the namespace what must be there before.
    """
    with cluster.namespace(purpose) as namespace:
        prepare(namespace)
        assert cluster.plane is not None
        network = ServiceNetwork(cluster, namespace, cluster.plane.loopback, next(_GROUPS)).start()
        folder = cluster.folder / namespace
        names = [f"{purpose}-{number}" for number in range(2)]
        kubelet = LocalKubelet(cluster, network, folder, *names).start()
        release = Release(cluster, namespace)
        try:
            release.install(MESH, *values)
            mesh = RunningMesh(release, kubelet, network)
            mesh.await_model()
            yield mesh
        finally:
            release.cluster.helm("uninstall", "trenza", "--namespace", namespace, check=False)
            kubelet.stop()
            network.stop()


_GROUPS = itertools.count(1)


class Load:
    """Clients that ask one question after the other. Half stream; half keep their connections, half make a new one each time."""

    def __init__(self, mesh: RunningMesh, clients: int = 4, model: str = MODEL) -> None:
        self.outcomes: Counter[str] = Counter()
        self._mesh, self._model = mesh, model
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(number,), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(ANSWER_LIMIT_S)

    @property
    def answered(self) -> int:
        return self.outcomes[""]

    @property
    def failures(self) -> dict[str, int]:
        """What went wrong, and how often."""
        return {what: number for what, number in self.outcomes.items() if what}

    def await_answers(self, more: int) -> None:
        """Waits until so many more requests have been answered."""
        wanted = self.answered + more
        eventually(lambda: self.answered >= wanted, ANSWER_LIMIT_S)

    def _ask_on(self, number: int) -> None:
        kept = httpx.Limits(max_keepalive_connections=None if number % 2 else 0)
        with self._mesh.client(limits=kept) as client:
            while not self._stopping.is_set():
                self.outcomes[ask(client, self._model, stream=number % 4 < 2)] += 1


def ask(client: httpx.Client, model: str, stream: bool = False) -> str:
    """Asks what 7 + 5 is. Returns "" if the answer is right and whole, or else what was wrong."""
    begun = time.monotonic()
    body = {"model": model, "messages": QUESTION, "temperature": 0, "stream": stream}
    try:
        answer = client.post("/v1/chat/completions", json=body)
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error} after {time.monotonic() - begun:.1f} s"
    if answer.status_code != httpx.codes.OK:
        return f"{answer.status_code}: {answer.text[:300]}"
    said = _streamed(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
    return "" if said.rstrip(".").endswith("12") else f"wrong: {answer.text[-300:]}"


def _streamed(body: str) -> str:
    """What a stream said, or nothing if it was cut off."""
    *events, end = [line.removeprefix("data: ") for line in body.splitlines() if line]
    if end != "[DONE]":
        return ""
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def rolled_out(deployment: Object) -> bool:
    """Whether a Deployment is what it is to be, and nothing of its past is left."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return seen and counts == [wanted] * 3 and not status.get("terminatingReplicas")
