"""Alerts, dashboards and autoscaling ask for metrics that there are, and the chart brings them where they are read."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.conftest import built
from chart.exported import TARGET_LABELS, exported
from chart.promtool import (
    ADAPTER,
    ALERTS,
    POOL_BOUNDS,
    Promtool,
    dashboard_queries,
    dashboards,
    metrics_of,
    panels,
    rule_queries,
    rules,
)
from chart.rendering import NAMESPACE, REPOSITORY, Chart

PROMETHEUS_OWN = {
    "up": TARGET_LABELS,
    "ALERTS": {*TARGET_LABELS, "alertname", "alertstate", "severity"},
}
MONITORED = {"monitoring": {part: {"enabled": True} for part in ("serviceMonitors", "prometheusRules", "dashboards")}}


def names() -> set[str]:
    recorded = {rule["record"] for rule in rules("record")}
    return {*exported(), *recorded, *POOL_BOUNDS, *PROMETHEUS_OWN}


@pytest.mark.parametrize("query", [*rule_queries(), *dashboard_queries()], ids=lambda query: query.place)
def test_every_metric_asked_for_is_exported(query: Any) -> None:
    asked = metrics_of(query.expr)
    assert asked
    assert asked <= names()


def test_a_metric_that_there_is_not_is_found() -> None:
    expr = (
        'sum by (model) (rate(trenza_gateway_request_total{route=~"/v1/.+"}[5m])) / on (model) up and vector(1) > 0.5'
    )
    assert metrics_of(expr) == {"trenza_gateway_request_total", "up"}


@pytest.mark.parametrize("query", [*rule_queries(), *dashboard_queries()], ids=lambda query: query.place)
def test_every_label_asked_for_is_exported(query: Any) -> None:
    labels = {**exported(), **PROMETHEUS_OWN}
    for name, matchers in re.findall(r"([a-zA-Z_:]+)\{([^}]*)\}", query.expr):
        if name in labels:
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= {*labels[name], *TARGET_LABELS}


def test_every_exported_metric_of_ours_is_shown_or_watched() -> None:
    asked = {name for query in [*rule_queries(), *dashboard_queries()] for name in metrics_of(query.expr)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported() if name.startswith("trenza_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    by_gateways = re.compile(r"trenza_(chat|audio|images|vision)_.+")  # what services count, gateways count as well
    assert {name for name in families - shown if not by_gateways.fullmatch(name)} == set()


def test_no_metric_is_defined_elsewhere() -> None:
    places = [
        path.relative_to(REPOSITORY)
        for folder in ("runtime", "gateway", "scheduler", "services")
        for path in (REPOSITORY / folder).rglob("*.py")
        if re.search(r"\b(Gauge|Counter|Histogram|Summary)\(\s*f?\"trenza_", path.read_text())
    ]
    assert places
    assert {path.stem for path in places} <= {"metrics", "devices", "certificates"}


def test_rules_look_at_one_namespace() -> None:
    for path in ALERTS.glob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                selected = re.findall(r"[a-z_:0-9]+\{([^}]*)\}", rule["expr"])
                assert selected
                assert all('namespace="trenza"' in matchers for matchers in selected), rule
                named = metrics_of(rule["expr"])
                assert all(f"{name}{{" in rule["expr"] for name in named), rule


def test_recorded_names_tell_level_metric_and_operation() -> None:
    for rule in rules("record"):
        assert re.fullmatch(r"[a-z_]+:trenza_[a-z_]+:[a-z0-9_]+", rule["record"])


def test_prometheus_understands_dashboards_and_the_adapter(tmp_path: Path) -> None:
    queries = [*dashboard_queries(), *[query for query in rule_queries() if query.place.startswith("adapter")]]
    wrapped = [{"record": f"query:{number}", "expr": query.expr} for number, query in enumerate(queries)]
    promtool = Promtool(built("promtool"), tmp_path)
    assert promtool.check({"groups": [{"name": "queries", "rules": wrapped}]}) == ""
    broken = [{"record": "broken", "expr": "sum by (model (up)"}]
    assert promtool.check({"groups": [{"name": "queries", "rules": broken}]}) != ""


def test_panels_lie_side_by_side() -> None:
    for name, dashboard in dashboards().items():
        places = [(panel["title"], panel["gridPos"]) for panel in panels(dashboard)]
        for (one, a), (other, b) in combinations(places, 2):
            apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            apart |= a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
            assert apart, f"{name}: {one} and {other} overlap"
        assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for _, place in places)


@pytest.mark.parametrize("name", sorted(dashboards()))
def test_dashboard_is_whole(name: str) -> None:
    dashboard = dashboards()[name]
    assert dashboard["uid"] == f"trenza-{name}"
    assert dashboard["title"].startswith("Trenza / ")
    assert [variable["name"] for variable in dashboard["templating"]["list"]][:2] == ["datasource", "namespace"]
    known = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(ids) == len(set(ids))
    for panel in panels(dashboard):
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= known
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in target["expr"] or label == "pod", panel["title"]


def test_dashboards_look_at_the_namespaces_that_are_chosen() -> None:
    for dashboard in dashboards().values():
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                named = metrics_of(target["expr"])
                assert named
                for name in named:
                    chosen = re.findall(rf"\b{name}\{{([^}}]*)\}}", target["expr"])
                    assert chosen, panel["title"]
                    assert all('namespace=~"$namespace"' in matchers for matchers in chosen), panel["title"]


def test_the_adapter_never_sums_over_models() -> None:
    (rule,) = yaml.safe_load(ADAPTER.read_text())["externalRules"]
    assert rule["name"]["as"] == "trenza_demand_slots"
    assert rule["metricsQuery"].startswith("max by (namespace, modality, model) (")
    assert "sum" not in rule["metricsQuery"]


def test_the_chart_renders_rules_for_its_namespace(chart: Chart) -> None:
    url = "https://docs.example.com/ops"
    values = {
        **MONITORED,
        "monitoring": {**MONITORED["monitoring"], "prometheusRules": {"enabled": True, "runbookUrl": url}},
    }
    (made,) = chart.render(values).of("PrometheusRule")
    found = {rule["alert"]: rule for group in made["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    assert found.keys() == {rule["alert"] for rule in rules("alert")}
    assert f'namespace="{NAMESPACE}"' in found["TrenzaGatewayDown"]["expr"]
    assert 'namespace="trenza"' not in json.dumps(made["spec"])
    for name, rule in found.items():
        assert rule["annotations"]["runbook_url"] == f"{url}#{name.lower()}"


def test_the_chart_tells_alerts_how_many_replicas_there_should_be(chart: Chart) -> None:
    values = {
        **MONITORED,
        "autoscaling": {"mode": "keda"},
        "pools": {
            "chat": {"replicas": 3, "autoscaling": {"mode": "none"}},
            "audio": {"autoscaling": {"minReplicas": 0, "maxReplicas": 5}},
            "vision": {"enabled": False},
        },
    }
    (made,) = chart.render(values).of("PrometheusRule")
    (group,) = [group for group in made["spec"]["groups"] if group["name"] == "trenza.pools"]
    told = {(rule["labels"]["pool"], rule["record"].rpartition(":")[2]): rule["expr"] for rule in group["rules"]}
    assert (told["chat", "min"], told["chat", "max"]) == ("vector(3)", "vector(3)")
    assert (told["audio", "min"], told["audio", "max"]) == ("vector(0)", "vector(5)")
    assert not [pool for pool, _ in told if pool == "vision"]
    assert {rule["record"] for rule in group["rules"]} == POOL_BOUNDS
    assert all(rule["labels"]["namespace"] == NAMESPACE for rule in group["rules"])


def test_monitors_find_the_metrics_port_of_every_part(chart: Chart) -> None:
    objects = chart.render(MONITORED)
    found: dict[str, list[str]] = {}
    for monitor in objects.of("ServiceMonitor"):
        selector = monitor["spec"]["selector"]
        (endpoint,) = monitor["spec"]["endpoints"]
        for service in objects.of("Service"):
            labels = service["metadata"]["labels"]
            wanted = labels.items() >= selector.get("matchLabels", {}).items()
            wanted &= all(rule["key"] in labels for rule in selector.get("matchExpressions", []))
            ports = [port["targetPort"] for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
            if wanted and ports:
                found.setdefault(labels["app.kubernetes.io/component"], []).append(service["metadata"]["name"])
    assert found == {
        "gateway": ["trenza-gateway-metrics"],
        "scheduler": ["trenza-scheduler"],
        **{modality: [f"trenza-pool-{modality}"] for modality in ("audio", "chat", "images", "vision")},
    }


def test_dashboards_arrive_whole(chart: Chart) -> None:
    values = {
        "monitoring": {"dashboards": {"enabled": True, "namespace": "grafana", "annotations": {"folder": "Trenza"}}}
    }
    brought: dict[str, Any] = {}
    for item in [item for item in chart.render(values).of("ConfigMap") if "-dashboard-" in item["metadata"]["name"]]:
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert item["metadata"]["namespace"] == "grafana"
        assert item["metadata"]["annotations"]["folder"] == "Trenza"
        brought |= {key: json.loads(text) for key, text in item["data"].items()}
    assert brought == {f"trenza-{name}.json": dashboard for name, dashboard in dashboards().items()}


def test_the_adapters_rules_arrive_whole(chart: Chart) -> None:
    values = {"monitoring": {"adapterRules": {"enabled": True, "namespace": "metrics"}}}
    item = chart.render(values).get("ConfigMap", "trenza-prometheus-adapter")
    assert item["metadata"]["namespace"] == "metrics"
    assert yaml.safe_load(item["data"]["config.yaml"]) == yaml.safe_load(ADAPTER.read_text())


def test_nothing_for_operators_that_are_not_there(chart: Chart) -> None:
    assert not [item for item in chart.render() if "monitoring.coreos.com" in item["apiVersion"]]
