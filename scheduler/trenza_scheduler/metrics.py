"""What the scheduler measures. Model names come from replicas, never from a client; those of models that are gone disappear."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trenza_scheduler.core.actions import Grant, Refuse
from trenza_scheduler.core.domain import Health, Outcome, Priority, Reason
from trenza_scheduler.core.figures import Figures
from trenza_scheduler.translate import MODALITIES

_WAITS_S = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

Labels = tuple[str, ...]


class SchedulerMetrics:
    """The scheduler's part of `/metrics`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._demand = self._family(
            "demand_slots",
            "Slots asked for: running, except on replicas that drain, and waiting. None before the scheduler has settled.",
        )
        self._capacity = self._family(
            "capacity_slots", "Slots of live replicas with the model loaded. None before the scheduler has settled."
        )
        self._served = self._family("model_served", "Whether a live replica takes requests for the model: 1 or 0.")
        self._failed = self._family(
            "model_failed_replicas", "Replicas on which the last attempt to load the model failed."
        )
        self._oldest = self._family(
            "oldest_wait_seconds", "How long the ticket has waited that came first; 0 where none waits."
        )
        self._leases = self._family("leases", "Leases held.")
        self._tickets = self._family(
            "queue_tickets",
            "Tickets that wait; those for models that no replica has announced have no model.",
            ("modality", "model", "priority"),
        )
        self._replicas = self._family("replicas", "Replicas that are not dead.", ("modality", "health"))
        self._gateways = Gauge("trenza_scheduler_gateways", "Gateways that are connected.", registry=registry)
        self._grants = Counter("trenza_scheduler_grants", "Tickets that got a place.", ("modality",), registry=registry)
        self._refusals = Counter("trenza_scheduler_refusals", "Tickets that got none.", ("reason",), registry=registry)
        self._releases = Counter(
            "trenza_scheduler_releases", "Leases that gateways ended.", ("outcome",), registry=registry
        )
        for reason in Reason:  # a rate sees the first of a kind only where the series was there before
            self._refusals.labels(reason.value)
        for outcome in Outcome:
            self._releases.labels(outcome.value)
        self._waits = Histogram(
            "trenza_scheduler_wait_seconds",
            "How long tickets waited for their place.",
            ("modality", "priority"),
            buckets=_WAITS_S,
            registry=registry,
        )

    def _family(self, name: str, meaning: str, labels: Labels = ("modality", "model")) -> _Family:
        return _Family(Gauge(f"trenza_scheduler_{name}", meaning, labels, registry=self._registry))

    def granted(self, grant: Grant) -> None:
        """Counts a ticket that got its place."""
        modality = MODALITIES[grant.lease.key.modality]
        self._grants.labels(modality).inc()
        self._waits.labels(modality, grant.priority.name.lower()).observe(grant.waited_s)

    def refused(self, refusal: Refuse) -> None:
        """Counts a ticket that got none."""
        self._refusals.labels(refusal.reason.value).inc()

    def released(self, outcome: Outcome) -> None:
        """Counts the end of a lease."""
        self._releases.labels(outcome.value).inc()

    def show(self, figures: Figures, gateways: int) -> None:
        """Sets the gauges. What is no longer there disappears.

        Demand and capacity are shown once the scheduler has settled: autoscalers act on them, and must not act on ignorance.
        """
        models = {(MODALITIES[key.modality], key.name): figure for key, figure in figures.models.items()}
        heard = models if figures.settled else {}
        self._demand.show({labels: figure.demand_slots for labels, figure in heard.items()})
        self._capacity.show({labels: figure.capacity_slots for labels, figure in heard.items()})
        self._served.show({labels: figure.served for labels, figure in models.items()})
        self._failed.show({labels: figure.failed_replicas for labels, figure in models.items()})
        self._oldest.show({labels: figure.oldest_wait_s for labels, figure in models.items()})
        self._leases.show({labels: figure.leases for labels, figure in models.items()})
        tickets: dict[Labels, float] = {
            (*labels, priority.name.lower()): figure.tickets[priority]
            for labels, figure in models.items()
            for priority in Priority
        }
        if figures.unknown_tickets:
            tickets["", "", ""] = figures.unknown_tickets
        self._tickets.show(tickets)
        modalities = {modality for modality, _ in figures.replicas} | {key.modality for key in figures.models}
        self._replicas.show(
            {
                (MODALITIES[m], health.value): figures.replicas.get((m, health), 0)
                for m in modalities
                for health in Health
            }
        )
        self._gateways.set(gateways)


class _Family:
    """A gauge whose label sets come and go."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: set[Labels] = set()

    def show(self, values: Mapping[Labels, float] | Mapping[tuple[str, str], float]) -> None:
        """Sets exactly these values."""
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        for labels in self._shown - values.keys():
            self._gauge.remove(*labels)
        self._shown = set(values)
