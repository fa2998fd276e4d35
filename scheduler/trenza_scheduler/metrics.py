"""What the scheduler measures. Model names come from replicas, never from a client; those of models that are gone disappear."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import Counter, Gauge, Histogram
from trenza.common.v1 import common_pb2

from trenza_scheduler.core.domain import Grant, Health, Priority
from trenza_scheduler.core.machine import Machine

DEMAND = Gauge("trenza_scheduler_demand_slots", "Slots asked for: running and waiting.", ["modality", "model"])
CAPACITY = Gauge(
    "trenza_scheduler_capacity_slots", "Slots of live replicas with the model loaded.", ["modality", "model"]
)
LEASES = Gauge("trenza_scheduler_leased_slots", "Slots under a lease.", ["modality", "model"])
QUEUE = Gauge("trenza_scheduler_queue_tickets", "Tickets that wait.", ["modality", "model", "priority"])
REPLICAS = Gauge("trenza_scheduler_replicas", "Replicas that are not dead.", ["modality", "health"])
GRANTS = Counter("trenza_scheduler_grants", "Tickets that got a place.", ["priority"])
REFUSALS = Counter("trenza_scheduler_refusals", "Tickets that got none.", ["reason"])
WAIT_SECONDS = Histogram(
    "trenza_scheduler_wait_seconds",
    "How long tickets waited for their place.",
    ["priority"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
)


def granted(grant: Grant) -> None:
    """Counts a ticket that got its place."""
    priority = grant.priority.name.lower()
    GRANTS.labels(priority).inc()
    WAIT_SECONDS.labels(priority).observe(grant.waited_s)


def show(machine: Machine) -> None:
    """Sets the gauges to what the machine knows."""
    for gauge in (DEMAND, CAPACITY, LEASES, QUEUE):
        gauge.clear()
    known = machine.counts()
    for model, count in known.items():
        labels = (_modality(count.modality), model)
        DEMAND.labels(*labels).set(count.running_slots + count.waiting_slots)
        CAPACITY.labels(*labels).set(count.capacity_slots)
        LEASES.labels(*labels).set(count.running_slots)
    waiting = Tally((w.ticket.model, w.ticket.priority) for w in machine.queue.all())
    for (model, priority), tickets in waiting.items():
        if model in known:
            QUEUE.labels(_modality(known[model].modality), model, Priority(priority).name.lower()).set(tickets)
    REPLICAS.clear()
    replicas = Tally((replica.report.modality, health) for replica, health in machine.replicas())
    for modality in {modality for modality, _ in replicas}:
        for health in Health:
            REPLICAS.labels(_modality(modality), health.value).set(replicas[modality, health])


def _modality(number: int) -> str:
    name = (
        common_pb2.Modality.Name(common_pb2.Modality.ValueType(number))
        if number in common_pb2.Modality.values()
        else ""
    )
    return name.removeprefix("MODALITY_").lower()
