"""The chart installed by real helm, and what the API server made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.lab.cluster import CHART, Cluster, Object

NAME = "trenza"
VARIANTS = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}


class Release:
    """One installation named `trenza`; `said` is what helm and the API server said beside the result."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.said = ""

    def install(self, *values: Path | Object) -> Release:
        self._skip_where_unknown(*values)
        return self._run("install", NAME, str(CHART), *self._values(values))

    def upgrade(self, *values: Path | Object) -> Release:
        return self._run("upgrade", NAME, str(CHART), *self._values(values))

    def rollback(self, revision: int) -> Release:
        return self._run("rollback", NAME, str(revision))

    def uninstall(self) -> Release:
        return self._run("uninstall", NAME)

    def manifest(self) -> list[Object]:
        """The objects of the present revision, as the API server has them now."""
        text = self.cluster.helm("get", "manifest", NAME, "--namespace", self.namespace).stdout
        return objects(self.cluster.kubectl("get", "-f", "-", "-o", "json", "-n", self.namespace, given=text).stdout)

    def warnings(self, *values: Path | Object) -> list[str]:
        """What the API server warns of when the chart's objects are applied, without applying them."""
        self._skip_where_unknown(*values)
        text = self._command("template", NAME, str(CHART), *self._values(values))
        done = self.cluster.kubectl(
            "apply", "--server-side", "--dry-run=server", "-n", self.namespace, "-f", "-", given=text
        )
        return [line for line in done.stderr.splitlines() if "Warning" in line]

    def path(self, kind: str, name: str = "", group: str = "apps/v1") -> str:
        """The API's path of a kind in the namespace, or of one object of it."""
        root = "/api/v1" if group == "v1" else f"/apis/{group}"
        return "/".join(filter(None, [root, "namespaces", self.namespace, kind, name]))

    def key(self, name: str) -> str:
        """How watches call an object of the namespace."""
        return f"{self.namespace}/{name}"

    def test(self, limit_s: float) -> str:
        """Runs `helm test` and returns what it and the tests' pods said; fails the test where they fail."""
        return self._command("test", NAME, f"--timeout={limit_s:.0f}s")

    def _skip_where_unknown(self, *values: Path | Object) -> None:
        """In somebody else's cluster kinds of foreign objects may be missing, and are not put there."""
        if self.cluster.plane is None:
            text = self._command("template", NAME, str(CHART), *self._values(values))
            wanted = {line.split()[1] for line in text.splitlines() if line.startswith("apiVersion:") and "/" in line}
            known = {
                version["groupVersion"]
                for group in self.cluster.get("/apis")["groups"]
                for version in group["versions"]
            }
            if missing := wanted - known:
                pytest.skip(f"the cluster of KUBECONFIG does not know {', '.join(sorted(missing))}")

    def _run(self, *arguments: str) -> Release:
        self._command(*arguments)
        return self

    def _command(self, *arguments: str) -> str:
        done = self.cluster.helm(*arguments, "--namespace", self.namespace)
        self.said = done.stderr
        return done.stdout

    def _values(self, values: tuple[Path | Object, ...]) -> list[str]:
        """Values as options; maps are written to files of JSON, which is YAML."""
        options = []
        for number, given in enumerate(values):
            path = given
            if not isinstance(path, Path):
                path = self.cluster.folder / f"{self.namespace}-{number}.json"
                path.write_text(json.dumps(given))
            options.append(f"--values={path}")
        return options


def objects(text: str) -> list[Object]:
    """The objects of a list or of a single object, as kubectl prints them."""
    parsed = json.loads(text) if text.strip() else {"kind": "List", "items": []}
    return list(parsed["items"]) if str(parsed["kind"]).endswith("List") else [parsed]


@contextmanager
def installed(cluster: Cluster, purpose: str, *values: Path | Object) -> Iterator[Release]:
    """The chart in a namespace of its own, both gone afterwards."""
    with cluster.namespace(purpose) as namespace:
        release = Release(cluster, namespace).install(*values)
        try:
            yield release
        finally:
            release.uninstall()
