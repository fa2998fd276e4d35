"""Every alert fires when it must and is silent when it must not; promtool judges."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.conftest import built
from chart.promtool import Promtool, groups, rules
from chart.rendering import REPOSITORY

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    name: scenarios
    for path in sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
    for name, scenarios in yaml.load(path.read_text(), yaml.BaseLoader).items()  # all is text: 0x5 is five more noughts
}
ALERTS = {rule["alert"]: rule for rule in rules("alert")}


@pytest.fixture
def promtool(tmp_path: Path) -> Promtool:
    return Promtool(built("promtool"), tmp_path)


def bare_groups() -> dict[str, Any]:
    """The rules without annotations, which scenarios do not repeat."""
    found = copy.deepcopy(groups())
    for group in found:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    return {"groups": found}


def as_promtool_wants(alert: str, scenario: dict[str, Any]) -> dict[str, Any]:
    """One scenario as a test of promtool's."""
    severity = ALERTS[alert]["labels"]["severity"]
    expected = [{"exp_labels": {**labels, "severity": severity}} for labels in scenario.get("fires", [])]
    times = {scenario["at"]: expected} | ({scenario["not_before"]: []} if "not_before" in scenario else {})
    return {
        "name": scenario["it"],
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in scenario["series"].items()],
        "alert_rule_test": [
            {"eval_time": time, "alertname": alert, "exp_alerts": alerts} for time, alerts in times.items()
        ],
    }


def test_prometheus_takes_the_rules(promtool: Promtool) -> None:
    assert promtool.check({"groups": groups()}) == ""


def test_every_alert_has_scenarios_of_both_kinds() -> None:
    assert SCENARIOS.keys() == ALERTS.keys()
    for alert, scenarios in SCENARIOS.items():
        assert any("fires" in scenario for scenario in scenarios), f"{alert} never fires"
        assert any("fires" not in scenario for scenario in scenarios), f"{alert} is never silent"
        assert any("not_before" in scenario for scenario in scenarios), f"{alert} has no patience"


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_alert(promtool: Promtool, alert: str) -> None:
    tests = [as_promtool_wants(alert, scenario) for scenario in SCENARIOS[alert]]
    assert promtool.test(bare_groups(), tests) == ""


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_scenarios_can_fail(promtool: Promtool, alert: str) -> None:
    wrong = [{**scenario, "fires": []} for scenario in SCENARIOS[alert] if "fires" in scenario]
    assert promtool.test(bare_groups(), [as_promtool_wants(alert, scenario) for scenario in wrong]) != ""


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_alert_says_what_whoever_is_woken_has_to_know(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["for"]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{alert.lower()}"
    assert all(text.strip().endswith((".", "}}")) or "#" in text for text in rule["annotations"].values())


def sections(title: str) -> list[str]:
    """Headings of the third level below one of the second, in the operators' page."""
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    (chapter,) = re.findall(rf"(?ms)^## {title}$(.*?)(?=^## |\Z)", page)
    return re.findall(r"(?m)^### (\w+)$", chapter)


def test_every_alert_has_its_section_in_the_runbook_and_no_section_is_left_over() -> None:
    found = sections("Runbook")
    assert len(found) == len(set(found))
    assert set(found) == set(ALERTS)
