"""What the operators' page says exists: values, settings, objects, files, metrics, places in the page."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from chart.exported import exported
from chart.rendering import CHART, REPOSITORY, Chart
from trenza_gateway.settings import Settings as GatewaySettings
from trenza_scheduler.settings import SchedulerSettings

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
MODALITIES = ("chat", "audio", "vision", "images")


def paths(values: Any, prefix: str = "") -> set[str]:
    """Every path into the values; those of a pool stand for all pools."""
    if not isinstance(values, dict):
        return set()
    found = set()
    for key, value in values.items():
        found |= {f"{prefix}{key}"} | paths(value, f"{prefix}{key}.")
    return found


KNOWN = paths(VALUES) | {f"pools.<pool>.{path}" for path in paths(VALUES["poolDefaults"])}


def test_values_that_are_named_exist() -> None:
    heads = "|".join(VALUES)
    named = {text.rstrip(".") for text in re.findall(rf"`((?:{heads})\.[A-Za-z.<>]+)[:`]", PAGE)}
    named |= set(re.findall(r"--set ([a-zA-Z.]+)=", PAGE))
    named = {text for text in named if not text.endswith(".trenza.mesh")}  # names in certificates
    assert len(named) > 10
    assert named <= KNOWN | {path.removeprefix("pools.<pool>.") for path in KNOWN}


def test_values_in_examples_are_taken(chart: Chart) -> None:
    examples = [yaml.safe_load(text) for text in re.findall(r"(?s)```yaml\n(.*?)```", PAGE)]
    assert len(examples) >= 3
    for values in examples:
        chart.render(values)


def test_settings_that_are_named_exist() -> None:
    known = {f"TRENZA_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields}
    known |= {f"TRENZA_SCHEDULER_{name.upper()}" for name in SchedulerSettings.model_fields}
    for name in re.findall(r"TRENZA_(?:GATEWAY|SCHEDULER)_[A-Z_0-9]+", PAGE):
        assert name in known


def test_objects_that_commands_name_exist(chart: Chart) -> None:
    objects = list(chart.render({"autoscaling": {"mode": "hpa"}}))
    kinds = {"deploy": "Deployment", "deployment": "Deployment", "service": "Service", "secret": "Secret"}
    kinds["hpa"] = "HorizontalPodAutoscaler"
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    named = re.findall(r"\b(deploy|deployment|service|secret|hpa)[/ ](trenza-[a-z-]+)", PAGE)
    assert len(named) >= 5
    for kind, name in named:
        assert (kinds[kind], name) in there


def test_labels_that_commands_select_by_are_those_of_pods(chart: Chart) -> None:
    labels = {key for _, found, _ in chart.render().pods() for key in found}
    values = {value for _, found, _ in chart.render().pods() for value in found.values()}
    for key, value in re.findall(r"-l ([a-z./]+)=(\S+?)[`\s,]", PAGE):
        assert key in labels
        assert value in values | {"…"}


def test_metrics_that_are_named_are_exported() -> None:
    named = set(re.findall(r"`(trenza_[a-z_]+)`", PAGE))
    assert named
    assert named <= {*exported(), "trenza_demand_slots"}


def test_files_that_are_linked_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE)
    assert links
    for link in links:
        assert (REPOSITORY / "docs" / link).exists(), link
    for name in re.findall(r"--values (helm/\S+)", PAGE):
        assert (REPOSITORY / name).exists(), name


def test_places_that_are_linked_exist() -> None:
    headings = re.findall(r"(?m)^#+ (.+)$", PAGE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert anchor in anchors


@pytest.mark.parametrize("modality", MODALITIES)
def test_pools_of_every_modality_have_the_name_that_commands_use(chart: Chart, modality: str) -> None:
    assert chart.render().get("Deployment", f"trenza-pool-{modality}")
