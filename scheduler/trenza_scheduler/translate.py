"""Between the scheduler's messages and its domain, both ways. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2

from trenza_scheduler.core.domain import (
    Candidate,
    Grant,
    Health,
    HeldLease,
    Load,
    ModelReport,
    Priority,
    QueueUpdate,
    Reason,
    Refuse,
    ReplicaReport,
    Ticket,
)
from trenza_scheduler.core.machine import Machine
from trenza_scheduler.core.queue import Waiting
from trenza_scheduler.core.stories import State, Story

MODALITIES: Mapping[int, str] = {
    common_pb2.MODALITY_CHAT: "chat",
    common_pb2.MODALITY_AUDIO: "audio",
    common_pb2.MODALITY_VISION: "vision",
    common_pb2.MODALITY_IMAGES: "images",
}
"""The modalities that there are, by the words that metrics and people use."""

NAME_LIMIT = 256
"""Longest name of anything, in characters."""
MODELS_LIMIT = 4096
"""Most models of one replica."""
HASHES_LIMIT = 64
EXCLUDED_LIMIT = 64
_LONGEST_MS = 2**32 - 1

_LOADS = {
    common_pb2.LOAD_STATE_LOADABLE: Load.LOADABLE,
    common_pb2.LOAD_STATE_LOADING: Load.LOADING,
    common_pb2.LOAD_STATE_LOADED: Load.LOADED,
    common_pb2.LOAD_STATE_UNLOADING: Load.UNLOADING,
}
_PRIORITIES: Mapping[int, Priority] = {
    common_pb2.PRIORITY_CLASS_URGENT: Priority.URGENT,
    common_pb2.PRIORITY_CLASS_NORMAL: Priority.NORMAL,
    common_pb2.PRIORITY_CLASS_BACKGROUND: Priority.BACKGROUND,
}
_HEALTHS: Mapping[Health, scheduler_pb2.ReplicaHealth.ValueType] = {
    Health.LIVE: scheduler_pb2.REPLICA_HEALTH_LIVE,
    Health.SUSPECT: scheduler_pb2.REPLICA_HEALTH_SUSPECT,
    Health.DRAINING: scheduler_pb2.REPLICA_HEALTH_DRAINING,
}
_REASONS: Mapping[Reason, scheduler_pb2.RefusalReason.ValueType] = {
    Reason.MODEL_NOT_FOUND: scheduler_pb2.REFUSAL_REASON_MODEL_NOT_FOUND,
    Reason.NO_CAPACITY: scheduler_pb2.REFUSAL_REASON_NO_CAPACITY,
    Reason.QUEUE_FULL: scheduler_pb2.REFUSAL_REASON_QUEUE_FULL,
    Reason.WAIT_LIMIT_EXCEEDED: scheduler_pb2.REFUSAL_REASON_WAIT_LIMIT_EXCEEDED,
    Reason.SHUTTING_DOWN: scheduler_pb2.REFUSAL_REASON_SHUTTING_DOWN,
    Reason.INVALID_TICKET: scheduler_pb2.REFUSAL_REASON_INVALID_TICKET,
}
_STATES: Mapping[State, scheduler_pb2.TicketState.ValueType] = {
    State.WAITING: scheduler_pb2.TICKET_STATE_WAITING,
    State.GRANTED: scheduler_pb2.TICKET_STATE_GRANTED,
    State.REFUSED: scheduler_pb2.TICKET_STATE_REFUSED,
    State.CANCELLED: scheduler_pb2.TICKET_STATE_CANCELLED,
    State.RELEASED: scheduler_pb2.TICKET_STATE_RELEASED,
}


class Invalid(Exception):
    """A message that cannot be taken; the exception's text is a sentence for its sender."""


def report(state: scheduler_pb2.ReplicaState) -> ReplicaReport:
    """A replica's word on itself. Raises Invalid when it lacks a name, an address or a modality, or is out of all bounds."""
    _check_name("replica id", state.replica_id)
    _check_name("address", state.address)
    _check_modality(state.modality)
    if len(state.models) > MODELS_LIMIT:
        raise Invalid(f"A replica may have {MODELS_LIMIT} models, not {len(state.models)}.")
    for item in state.models:
        _check_name("model", item.model.name)
    return ReplicaReport(
        replica_id=state.replica_id,
        generation=state.generation,
        modality=state.modality,
        address=state.address,
        draining=state.draining,
        models={item.model.name: _model_from(item) for item in state.models},
        original=state,
    )


def _model_from(item: scheduler_pb2.ModelState) -> ModelReport:
    load = _LOADS.get(item.model.load_state, Load.FAILED)
    return ModelReport(load, item.model.slots, item.slots_used)


def ticket(stream: str, message: scheduler_pb2.Ticket, longest_wait_s: float) -> Ticket:
    """A gateway's ticket. Raises Invalid when it lacks what every ticket has."""
    _check_name("request id", message.request_id)
    _check_name("model", message.model)
    _check_modality(message.modality)
    for name, value in (("tenant", message.tenant), ("session id", message.session_id)):
        if len(value) > NAME_LIMIT:
            raise Invalid(f"The {name} is longer than {NAME_LIMIT} characters.")
    return Ticket(
        stream=stream,
        request_id=message.request_id,
        model=message.model,
        modality=message.modality,
        priority=_PRIORITIES.get(message.priority, Priority.NORMAL),
        slots=max(1, message.slots),
        wait_limit_s=message.wait_limit_ms / 1000 or longest_wait_s,
        tenant=message.tenant,
        session_id=message.session_id,
        prefix_hashes=tuple(message.prefix_hashes[:HASHES_LIMIT]),
        excluded=frozenset(message.excluded_replica_ids[:EXCLUDED_LIMIT]),
    )


def held_lease(message: scheduler_pb2.HeldLease) -> HeldLease:
    """A lease that a gateway brings along. Raises Invalid for one that cannot be one."""
    _check_name("lease id", message.lease_id)
    _check_name("request id", message.request_id)
    _check_name("replica id", message.replica_id)
    _check_name("model", message.model)
    return HeldLease(
        lease_id=message.lease_id,
        request_id=message.request_id,
        replica_id=message.replica_id,
        model=message.model,
        modality=message.modality,
        slots=max(1, message.slots),
    )


def answer(action: Grant | QueueUpdate | Refuse) -> scheduler_pb2.AdmitResponse:
    """What a gateway is told about one ticket."""
    match action:
        case Grant():
            return scheduler_pb2.AdmitResponse(grant=grant_to(action))
        case Refuse():
            return scheduler_pb2.AdmitResponse(refusal=refusal_to(action))
        case QueueUpdate():
            return scheduler_pb2.AdmitResponse(queue_update=update_to(action))


def grant_to(grant: Grant) -> scheduler_pb2.Grant:
    """A place, for the gateway."""
    return scheduler_pb2.Grant(
        request_id=grant.lease.request_id,
        lease_id=grant.lease.lease_id,
        replica_id=grant.lease.replica_id,
        address=grant.address,
        model_loaded=grant.model_loaded,
        waited_ms=_milliseconds(grant.waited_s),
    )


def update_to(update: QueueUpdate) -> scheduler_pb2.QueueUpdate:
    """A position, for the gateway."""
    return scheduler_pb2.QueueUpdate(
        request_id=update.request_id,
        position=update.position,
        expected_wait_ms=_milliseconds(update.expected_wait_s),
    )


def refusal_to(refusal: Refuse) -> scheduler_pb2.Refusal:
    """A refusal, for the gateway."""
    return scheduler_pb2.Refusal(
        request_id=refusal.request_id,
        reason=_REASONS[refusal.reason],
        message=refusal.message,
        retry_after_ms=_milliseconds(refusal.retry_after_s),
    )


def snapshot(machine: Machine, version: int, epoch: str, now_s: float) -> scheduler_pb2.Snapshot:
    """The fleet as it is now."""
    views = [
        _view(replica.report, machine.health(replica, now_s), machine.fleet.leased_slots_of(name))
        for name, replica in machine.fleet.replicas.items()
    ]
    return scheduler_pb2.Snapshot(version=version, epoch=epoch, replicas=views, settled=machine.settled)


def queues(machine: Machine, now_s: float) -> list[scheduler_pb2.QueueView]:
    """The tickets that wait, by model."""
    return [_queue(machine.queue.line(model), now_s) for model in machine.queue.models()]


def _view(report: ReplicaReport, health: Health, leased_slots: int) -> scheduler_pb2.ReplicaView:
    state = report.original if isinstance(report.original, scheduler_pb2.ReplicaState) else None
    return scheduler_pb2.ReplicaView(state=state, health=_HEALTHS[health], leased_slots=leased_slots)


def _queue(line: list[Waiting], now_s: float) -> scheduler_pb2.QueueView:
    return scheduler_pb2.QueueView(
        model=line[0].ticket.model,
        modality=_modality(line[0].ticket.modality),
        waiting_tickets=len(line),
        waiting_slots=sum(waiting.ticket.slots for waiting in line),
        oldest_wait_ms=_milliseconds(now_s - min(waiting.arrived_s for waiting in line)),
    )


def explanation(story: Story, now_s: float) -> scheduler_pb2.ExplainResponse:
    """What became of a request."""
    waited_s = now_s - story.since_s if story.waited_s is None else story.waited_s
    return scheduler_pb2.ExplainResponse(
        request_id=story.request_id,
        state=_STATES[story.state],
        replica_id=story.replica_id,
        waiting_for=story.waiting_for,
        candidates=[_candidate_to(candidate) for candidate in story.candidates],
        waited_ms=_milliseconds(waited_s),
    )


def _candidate_to(candidate: Candidate) -> scheduler_pb2.CandidateView:
    return scheduler_pb2.CandidateView(
        replica_id=candidate.replica_id,
        ruled_out_by=candidate.ruled_out_by,
        score=candidate.score,
        scores=candidate.scores,
    )


def _check_name(what: str, name: str) -> None:
    if not name:
        raise Invalid(f"The {what} is missing.")
    if len(name) > NAME_LIMIT:
        raise Invalid(f"The {what} is longer than {NAME_LIMIT} characters.")


def _check_modality(modality: int) -> None:
    if modality not in MODALITIES:
        raise Invalid("The modality is missing or unknown.")


def _modality(number: int) -> common_pb2.Modality.ValueType:
    return common_pb2.Modality.Value(f"MODALITY_{MODALITIES[number].upper()}")


def _milliseconds(seconds: float) -> int:
    return min(_LONGEST_MS, max(0, round(seconds * 1000)))
