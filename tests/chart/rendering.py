"""Renders the chart with real helm, once per set of values, and finds things in what it renders."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm" / "trenza"
VARIANTS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
RELEASE, NAMESPACE = "trenza", "ai"
RENDER_S = 120.0
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Object = dict[str, Any]


class Refused(Exception):
    """helm would not render; the message is what it says."""


class Objects:
    """What one rendering has made."""

    def __init__(self, objects: list[Object]) -> None:
        self._objects = objects

    def __iter__(self) -> Iterator[Object]:
        return iter(self._objects)

    def of(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [item for item in self._objects if item["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        """Their names."""
        return {item["metadata"]["name"] for item in self.of(kind)}

    def get(self, kind: str, name: str) -> Object:
        """The object of a kind and a name."""
        (found,) = [item for item in self.of(kind) if item["metadata"]["name"] == name]
        return found

    def pod(self, deployment: str) -> Object:
        """The pod that a Deployment makes."""
        spec: Object = self.get("Deployment", deployment)["spec"]["template"]["spec"]
        return spec

    def container(self, deployment: str) -> Object:
        """Its main container."""
        container: Object = self.pod(deployment)["containers"][0]
        return container

    def environment(self, deployment: str) -> dict[str, Any]:
        """The main container's variables: values, or where they come from."""
        return {item["name"]: item.get("value", item.get("valueFrom")) for item in self.container(deployment)["env"]}

    def pods(self) -> list[tuple[str, Object, Object]]:
        """Name, labels and specification of every pod there is, of Deployments and by itself."""
        made = [
            (item["metadata"]["name"], item["spec"]["template"]["metadata"]["labels"], item["spec"]["template"]["spec"])
            for item in self.of("Deployment")
        ]
        alone = [(item["metadata"]["name"], item["metadata"]["labels"], item["spec"]) for item in self.of("Pod")]
        return made + alone


class Chart:
    """The chart, rendered by one helm."""

    def __init__(self, helm: Path) -> None:
        self._helm = helm
        self._rendered: dict[str, str] = {}

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """What helm prints. Raises Refused."""
        told = subprocess.run(
            [str(self._helm), *arguments, *(["--values", "-"] if values is not None else [])],
            input=json.dumps(values) if values is not None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=RENDER_S,
        )
        if told.returncode:
            raise Refused(told.stderr + told.stdout)
        return told.stdout

    def render(self, values: Mapping[str, Any] | None = None, release: str = RELEASE) -> Objects:
        """The objects that these values make. Raises Refused."""
        key = json.dumps([values or {}, release], sort_keys=True)
        if key not in self._rendered:
            text = self.run("template", release, str(CHART), "--namespace", NAMESPACE, values=values or {})
            items = yaml.load_all(text, LOADER)
            self._rendered[key] = json.dumps([item for item in items if item])
        return Objects(json.loads(self._rendered[key]))

    def variant(self, name: str) -> Objects:
        """The objects of one of the chart's own examples."""
        return self.render(values_of(name))


def values_of(variant: str) -> dict[str, Any]:
    """The values of one of the chart's own examples."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{variant}-values.yaml").read_text()) or {}
    return values
