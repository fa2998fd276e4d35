"""A cluster as tests use it: kubectl, helm, and the API with watches to wait on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cluster.lab.children import Child
from cluster.lab.control_plane import ControlPlane
from cluster.lab.programs import program
from mesh import REPOSITORY, eventually

Object = dict[str, Any]
CHART = REPOSITORY / "helm" / "trenza"
COMMAND_LIMIT_S = 300.0
WATCH_S = 30
NAMESPACES = "/api/v1/namespaces"


class Cluster:
    """One API server. `plane` is None where the cluster is somebody else's, reached through KUBECONFIG."""

    def __init__(self, kubeconfig: Path, folder: Path, plane: ControlPlane | None = None) -> None:
        self.kubeconfig, self.folder, self.plane = kubeconfig, folder, plane
        self._proxy = Child(
            "kubectl-proxy", [program("kubectl"), "proxy", "--port=0", "--kubeconfig", kubeconfig], folder
        )
        started = eventually(lambda: re.search(r"127\.0\.0\.1:(\d+)", self._proxy.log), limit_s=30)
        self.url = f"http://127.0.0.1:{started.group(1)}"
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def close(self) -> None:
        self.http.close()
        self._proxy.stop()

    # Commands

    def kubectl(
        self, *arguments: str, given: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; what it must have is read from `given`."""
        return self._command([program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments], given, check)

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs helm with folders of its own, so that nothing of the person's comes in."""
        return self._command([program("helm"), "--kubeconfig", self.kubeconfig, *arguments], None, check)

    def _command(
        self, command: Sequence[str | Path], given: str | None, check: bool
    ) -> subprocess.CompletedProcess[str]:
        own = {f"HELM_{kind}_HOME": str(self.folder / f"helm-{kind.lower()}") for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **own},
            input=given,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{command[0]} {command[3:]}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        return done

    # The API

    def get(self, path: str, **query: str) -> Object:
        """An object or a list; fails the test where there is none."""
        return self._answer(self.http.get(path, params=query))

    def find(self, path: str) -> Object | None:
        """An object, or None where there is none."""
        answer = self.http.get(path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._answer(answer)

    def items(self, path: str, **query: str) -> list[Object]:
        """What a list holds."""
        return list(self.get(path, **query)["items"])

    def create(self, path: str, body: Object) -> Object:
        return self._answer(self.http.post(path, json=body))

    def patch(self, path: str, body: Object) -> Object:
        """A merge patch; of the subresource where the path ends in one."""
        return self._answer(
            self.http.patch(path, content=json.dumps(body), headers={"Content-Type": "application/merge-patch+json"})
        )

    def delete(self, path: str, **options: Any) -> None:
        """Deletes; that there is nothing to delete is fine."""
        answer = self.http.request("DELETE", path, json={"apiVersion": "v1", "kind": "DeleteOptions", **options})
        if answer.status_code != httpx.codes.NOT_FOUND:
            self._answer(answer)

    def apply(self, *objects: Object) -> None:
        """Server-side apply of anything."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(bundle))

    def watch(self, path: str, limit_s: float, **query: str) -> Iterator[dict[str, Object]]:
        """The objects of a list by namespace/name: now, and again after each change, until the limit."""
        end = time.monotonic() + limit_s
        while True:
            listed = self.get(path, **query)
            known = {_key(item): item for item in listed["items"]}
            yield known
            version = str(listed["metadata"]["resourceVersion"])
            for event in self._events(path, version, end, query):
                if event["type"] == "DELETED":
                    known.pop(_key(event["object"]), None)
                elif event["type"] in ("ADDED", "MODIFIED"):
                    known[_key(event["object"])] = event["object"]
                else:
                    break
                yield known
            if time.monotonic() > end:
                return

    def _events(self, path: str, version: str, end: float, query: Mapping[str, str]) -> Iterator[Object]:
        lasting = max(1, min(WATCH_S, round(end - time.monotonic())))
        asked = {**query, "watch": "1", "resourceVersion": version, "timeoutSeconds": str(lasting)}
        try:
            with self.http.stream("GET", path, params=asked, timeout=WATCH_S + 30) as answer:
                for line in answer.iter_lines():
                    yield json.loads(line)
        except httpx.TransportError:
            return  # the list is read again

    def wait(
        self, path: str, condition: Callable[[dict[str, Object]], Any], limit_s: float = 120.0, **query: str
    ) -> Any:
        """Waits until `condition` says something true of a list's objects, and returns that; fails at the limit."""
        known: dict[str, Object] = {}
        for known in self.watch(path, limit_s, **query):
            if found := condition(known):
                return found
        seen = json.dumps([{"name": key, "status": item.get("status")} for key, item in known.items()])
        raise AssertionError(f"not within {limit_s} s at {path}: {seen[:4000]}")

    @staticmethod
    def _answer(answer: httpx.Response) -> Object:
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        body: Object = answer.json()
        return body

    # Namespaces

    @contextmanager
    def namespace(self, purpose: str, **labels: str) -> Iterator[str]:
        """A namespace that is gone afterwards, with Pod Security `restricted` enforced unless labels say otherwise."""
        name = f"trenza-{purpose}-{uuid.uuid4().hex[:6]}"
        security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        metadata = {"name": name, "labels": {**security, **labels}}
        self.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            # Pods are refused until it has its service account.
            self.wait(f"{NAMESPACES}/{name}/serviceaccounts", lambda known: f"{name}/default" in known, 60)
            yield name
        finally:
            self.delete(f"{NAMESPACES}/{name}")


def _key(item: Object) -> str:
    metadata = item["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])


def condition_of(item: Object, kind: str) -> str:
    """The status of one of an object's conditions, "" where it has none of that kind."""
    conditions = item.get("status", {}).get("conditions") or []
    return next((str(found["status"]) for found in conditions if found["type"] == kind), "")
