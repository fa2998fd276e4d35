"""The metrics that the code exports, with their labels, as Prometheus would store them."""

from __future__ import annotations

import importlib
import pkgutil

import trenza_audio
import trenza_chat
import trenza_gateway
import trenza_images
import trenza_runtime
import trenza_vision
from prometheus_client import PROCESS_COLLECTOR, REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from trenza_scheduler.metrics import SchedulerMetrics

_PACKAGES = (trenza_runtime, trenza_gateway, trenza_chat, trenza_audio, trenza_images, trenza_vision)
_MODULES = ("metrics", "devices", "certificates")
"""Where metrics are defined; `test_no_metric_is_defined_elsewhere` guards that."""
TARGET_LABELS = frozenset({"namespace", "pod", "service", "job", "instance", "component", "pool", "modality"})
"""What the ServiceMonitors add to every series."""
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def exported() -> dict[str, frozenset[str]]:
    """Every metric by its name, with the labels of its own."""
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] in _MODULES:
                importlib.import_module(module.name)
    scheduler = CollectorRegistry()
    SchedulerMetrics(scheduler)
    found = {metric.name: frozenset[str]() for metric in PROCESS_COLLECTOR.collect()}
    found = {name + ("_total" if name == "process_cpu_seconds" else ""): labels for name, labels in found.items()}
    for registry in (REGISTRY, scheduler):
        # The registry tells no labels of a metric that has no value yet, except in private.
        for collector in list(registry._collector_to_names):
            if isinstance(collector, MetricWrapperBase) and collector._name.startswith("trenza_"):
                for suffix in _SUFFIXES[str(collector._type)]:
                    labels = {*collector._labelnames, *(["le"] if suffix == "_bucket" else [])}
                    found[collector._name + suffix] = frozenset(labels)
    return found
