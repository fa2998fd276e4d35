"""Between the scheduler's messages and its domain, both ways. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2

from trenza_scheduler.core.actions import Grant, QueueUpdate, Refuse
from trenza_scheduler.core.domain import (
    Candidate,
    Health,
    HeldLease,
    Load,
    ModelKey,
    ModelReport,
    Outcome,
    Priority,
    Reason,
    ReplicaReport,
    Ticket,
)
from trenza_scheduler.core.expected import Expected
from trenza_scheduler.core.machine import Machine
from trenza_scheduler.core.membership import Member
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
"""Prefix hashes that are looked at; the longest beginnings are kept."""
EXCLUDED_LIMIT = 64
_LONGEST_MS = 2**32 - 1

_PRIORITIES: Mapping[int, Priority] = {
    common_pb2.PRIORITY_CLASS_URGENT: Priority.URGENT,
    common_pb2.PRIORITY_CLASS_NORMAL: Priority.NORMAL,
    common_pb2.PRIORITY_CLASS_BACKGROUND: Priority.BACKGROUND,
}
_LOADS: Mapping[int, Load] = {
    common_pb2.LOAD_STATE_LOADABLE: Load.LOADABLE,
    common_pb2.LOAD_STATE_LOADING: Load.LOADING,
    common_pb2.LOAD_STATE_LOADED: Load.LOADED,
    common_pb2.LOAD_STATE_UNLOADING: Load.UNLOADING,
    common_pb2.LOAD_STATE_FAILED: Load.FAILED,
}
_OUTCOMES: Mapping[int, Outcome] = {
    scheduler_pb2.OUTCOME_COMPLETED: Outcome.COMPLETED,
    scheduler_pb2.OUTCOME_CANCELLED: Outcome.CANCELLED,
    scheduler_pb2.OUTCOME_CLIENT_ERROR: Outcome.CLIENT_ERROR,
    scheduler_pb2.OUTCOME_REPLICA_BUSY: Outcome.REPLICA_BUSY,
    scheduler_pb2.OUTCOME_REPLICA_FAILED: Outcome.REPLICA_FAILED,
    scheduler_pb2.OUTCOME_DEADLINE_EXCEEDED: Outcome.DEADLINE_EXCEEDED,
    scheduler_pb2.OUTCOME_GATEWAY_ERROR: Outcome.GATEWAY_ERROR,
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


# From messages


def report(state: scheduler_pb2.ReplicaState) -> ReplicaReport:
    """A replica's word on itself. Raises Invalid when it lacks an address or a modality, or is out of all bounds."""
    check_name("replica id", state.replica_id)
    check_name("address", state.address)
    _check_modality(state.modality)
    if len(state.models) > MODELS_LIMIT:
        raise Invalid(f"A replica may have {MODELS_LIMIT} models, not {len(state.models)}.")
    for item in state.models:
        check_name("model", item.model.name)
    return ReplicaReport(
        replica_id=state.replica_id,
        generation=state.generation,
        modality=state.modality,
        address=state.address,
        models={item.model.name: _model_report(item) for item in state.models},
        draining=state.draining,
        queued=state.queued_requests,
        queue_limit=state.queue_limit,
        free_bytes=_free_bytes(state.devices),
        original=state,
    )


def _model_report(item: scheduler_pb2.ModelState) -> ModelReport:
    return ModelReport(
        load=_LOADS.get(item.model.load_state, Load.UNKNOWN),
        slots=item.model.slots,
        slots_used=item.slots_used,
        memory_bytes=item.memory_bytes,
        pinned=item.pinned,
        original=item.model,
    )


def _free_bytes(devices: Iterable[scheduler_pb2.DeviceState]) -> int:
    """The most that is free on one device; main memory counts only where there is no accelerator."""
    free = [(device.name != "cpu", device.memory_free_bytes) for device in devices]
    return max(free, default=(False, 0))[1]


def ticket(stream: str, message: scheduler_pb2.Ticket) -> Ticket:
    """A gateway's ticket. Raises Invalid when it lacks what every ticket has."""
    check_name("request id", message.request_id)
    check_name("model", message.model)
    _check_modality(message.modality)
    for name, value in (("tenant", message.tenant), ("session id", message.session_id)):
        if len(value) > NAME_LIMIT:
            raise Invalid(f"The {name} is longer than {NAME_LIMIT} characters.")
    return Ticket(
        stream=stream,
        request_id=message.request_id,
        key=ModelKey(message.modality, message.model),
        priority=_PRIORITIES.get(message.priority, Priority.NORMAL),
        slots=max(1, message.slots),
        wait_limit_s=message.wait_limit_ms / 1000,
        tenant=message.tenant,
        session_id=message.session_id,
        prefix_hashes=tuple(message.prefix_hashes[-HASHES_LIMIT:]),
        excluded=frozenset(message.excluded_replica_ids[:EXCLUDED_LIMIT]),
    )


def held_lease(message: scheduler_pb2.HeldLease) -> HeldLease:
    """A lease that a gateway brings along. Raises Invalid for one that cannot be one."""
    check_name("lease id", message.lease_id)
    check_name("request id", message.request_id)
    check_name("replica id", message.replica_id)
    check_name("model", message.model)
    return HeldLease(
        lease_id=message.lease_id,
        request_id=message.request_id,
        replica_id=message.replica_id,
        key=ModelKey(message.modality, message.model),
        slots=max(1, message.slots),
    )


def outcome(number: int) -> Outcome:
    """How a request ended."""
    return _OUTCOMES.get(number, Outcome.UNKNOWN)


def check_name(what: str, name: str) -> None:
    """Raises Invalid for a name that is missing or too long."""
    if not name:
        raise Invalid(f"The {what} is missing.")
    if len(name) > NAME_LIMIT:
        raise Invalid(f"The {what} is longer than {NAME_LIMIT} characters.")


def _check_modality(modality: int) -> None:
    if modality not in MODALITIES:
        raise Invalid("The modality is missing or unknown.")


# To messages


def grant(action: Grant) -> scheduler_pb2.Grant:
    """A place, for the gateway."""
    return scheduler_pb2.Grant(
        request_id=action.lease.request_id,
        lease_id=action.lease.lease_id,
        replica_id=action.lease.replica_id,
        address=action.address,
        model_loaded=action.model_loaded,
        waited_ms=_milliseconds(action.waited_s),
    )


def queue_update(action: QueueUpdate) -> scheduler_pb2.QueueUpdate:
    """A position, for the gateway."""
    return scheduler_pb2.QueueUpdate(
        request_id=action.request_id,
        position=action.position,
        expected_wait_ms=_milliseconds(action.expected_wait_s),
    )


def refusal(action: Refuse) -> scheduler_pb2.Refusal:
    """A refusal, for the gateway."""
    return scheduler_pb2.Refusal(
        request_id=action.request_id,
        reason=_REASONS[action.reason],
        message=action.message,
        retry_after_ms=_milliseconds(action.retry_after_s),
    )


def snapshot(machine: Machine, version: int, epoch: str) -> scheduler_pb2.Snapshot:
    """The fleet as it is now."""
    views = [
        _view(member, machine.leases.slots_of_replica(member.report.replica_id)) for member in machine.membership.all()
    ]
    return scheduler_pb2.Snapshot(
        version=version,
        epoch=epoch,
        replicas=views,
        settled=machine.settled,
        expected_models=[_expected(key, machine.expected) for key in machine.expected],
    )


def _expected(key: ModelKey, expected: Expected) -> scheduler_pb2.ExpectedModel:
    """An expected model as it looks while no replica is there."""
    model = common_pb2.Model(name=key.name, modality=modality_value(key.modality))
    described = expected.description(key)
    if isinstance(described, common_pb2.Model):
        model.CopyFrom(described)
    model.load_state, model.load_progress, model.slots = common_pb2.LOAD_STATE_LOADABLE, 0.0, 0
    return scheduler_pb2.ExpectedModel(model=model, replica_slots=expected.slots(key))


def _view(member: Member, leased_slots: int) -> scheduler_pb2.ReplicaView:
    state = member.report.original
    assert isinstance(state, scheduler_pb2.ReplicaState)
    return scheduler_pb2.ReplicaView(state=state, health=_HEALTHS[member.health], leased_slots=leased_slots)


def queues(machine: Machine, now_s: float) -> list[scheduler_pb2.QueueView]:
    """The tickets that wait, by model."""
    return [_queue(key, machine.queue.line(key), now_s) for key in machine.queue.models()]


def _queue(key: ModelKey, line: Iterable[Waiting], now_s: float) -> scheduler_pb2.QueueView:
    tickets = list(line)
    return scheduler_pb2.QueueView(
        model=key.name,
        modality=modality_value(key.modality),
        waiting_tickets=len(tickets),
        waiting_slots=sum(waiting.ticket.slots for waiting in tickets),
        oldest_wait_ms=_milliseconds(max((now_s - waiting.arrived_s for waiting in tickets), default=0.0)),
    )


def modality_value(number: int) -> common_pb2.Modality.ValueType:
    """The enum's value of one of MODALITIES."""
    return common_pb2.Modality.Value(f"MODALITY_{MODALITIES[number].upper()}")


def explanation(story: Story) -> scheduler_pb2.ExplainResponse:
    """What became of a request."""
    return scheduler_pb2.ExplainResponse(
        request_id=story.request_id,
        state=_STATES[story.state],
        replica_id=story.replica_id,
        waiting_for=story.waiting_for,
        candidates=[_candidate(candidate) for candidate in story.candidates],
        waited_ms=_milliseconds(story.waited_s),
    )


def _candidate(candidate: Candidate) -> scheduler_pb2.CandidateView:
    return scheduler_pb2.CandidateView(
        replica_id=candidate.replica_id,
        ruled_out_by=candidate.ruled_out_by,
        score=candidate.score,
        scores=dict(candidate.scores),
    )


def _milliseconds(seconds: float) -> int:
    return min(_LONGEST_MS, max(0, round(seconds * 1000)))
