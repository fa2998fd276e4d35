"""Asks promtool about rules and queries, and reads what the chart's files for Prometheus hold."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from chart.rendering import CHART

ALERTS = CHART / "files" / "alerts"
DASHBOARDS = CHART / "files" / "dashboards"
ADAPTER = CHART / "files" / "prometheus-adapter" / "rules.yaml"
POOL_BOUNDS = frozenset({"trenza:pool_replicas:min", "trenza:pool_replicas:max"})
RECORDING = "trenza.recording"
ANSWER_S = 60.0
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAMES = re.compile(r"(?<![\w.])[a-zA-Z_:][\w:]*+(?!\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool", "inf", "nan", "offset"})
_GRAFANA = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}


@dataclass(frozen=True)
class Query:
    """An expression and where it stands."""

    place: str
    expr: str


class Promtool:
    """The command."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder

    def check(self, rules: Mapping[str, Any]) -> str:
        """What is wrong with groups of rules; empty when nothing is."""
        return self._run("check", "rules", str(self._write("rules.yaml", rules)))

    def test(self, rules: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> str:
        """What did not come out as expected; empty when all did."""
        named = self._write("rules.yaml", rules)
        # Otherwise each run has an order of its own, and what alerts are made of may be a minute old.
        order = sorted((group["name"] for group in rules["groups"]), key=lambda name: name != RECORDING)
        told = {
            "rule_files": [str(named)],
            "evaluation_interval": "1m",
            "group_eval_order": order,
            "tests": list(tests),
        }
        return self._run("test", "rules", str(self._write("tests.yaml", told)))

    def _write(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self._folder / name
        path.write_text(yaml.safe_dump(content))
        return path

    def _run(self, *arguments: str) -> str:
        told = subprocess.run(
            [str(self._path), *arguments], capture_output=True, text=True, check=False, timeout=ANSWER_S
        )
        return told.stdout + told.stderr if told.returncode else ""


def groups() -> list[dict[str, Any]]:
    """Every group of rules."""
    return [group for path in sorted(ALERTS.glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]


def rules(kind: str) -> list[dict[str, Any]]:
    """Every rule that is an `alert`, or a `record`."""
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by its file's name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those folded into rows as well."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def rule_queries() -> list[Query]:
    """The expressions of all rules, and the adapter's queries as it would ask them."""
    found = [Query(rule.get("alert") or rule["record"], rule["expr"]) for group in groups() for rule in group["rules"]]
    for rule in yaml.safe_load(ADAPTER.read_text())["externalRules"]:
        series = rule["name"]["matches"].strip("^$")
        asked = rule["metricsQuery"].replace("<<.Series>>", series).replace("<<.LabelMatchers>>", 'model="m"')
        found += [Query("adapter's series", rule["seriesQuery"]), Query("adapter's metric", asked)]
    return found


def dashboard_queries() -> list[Query]:
    """The expressions of all panels and variables, with something in place of Grafana's variables."""
    found = []
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                found.append(Query(f"{name}: {panel['title']}", filled(target["expr"])))
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])
                assert asked, f"{name}: {variable['name']} does not ask for label_values(…, label)"
                found.append(Query(f"{name}: ${variable['name']}", filled(asked.group(1))))
    return found


def filled(expr: str, **values: str) -> str:
    """The expression as Grafana would send it, `.+` for a variable that has no value here."""
    for name, value in _GRAFANA.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$(\w+)", lambda found: values.get(found.group(1), ".+"), expr)


def metrics_of(expr: str) -> set[str]:
    """The metrics that an expression names."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", re.sub(r'"[^"]*"', "", expr))
    return {name for name in _NAMES.findall(_LABEL_LISTS.sub("", bare)) if name not in _WORDS}
