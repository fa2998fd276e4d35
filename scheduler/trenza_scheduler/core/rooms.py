"""How many slots of a model a replica has left. What is not known counts as taken."""

from __future__ import annotations

from trenza_scheduler.core.domain import Load, ModelKey, ModelReport
from trenza_scheduler.core.leases import LeaseBook
from trenza_scheduler.core.membership import Member

_COLD = frozenset({Load.LOADABLE, Load.LOADING, Load.UNLOADING})


def capacity(model: ModelReport) -> int:
    """Slots that a replica offers for a model.

    Where the model is not loaded, as many tickets may wait for it there as it is expected to run together, or one; so the
    whole queue does not rush to the first replica that could load it. After a failed load one ticket may try again.
    """
    if model.load is Load.LOADED:
        return model.slots
    if model.load in _COLD:
        return max(1, model.slots)
    return 1 if model.load is Load.FAILED else 0


def free_slots(member: Member, key: ModelKey, leases: LeaseBook) -> int:
    """Slots that are left: what the replica offers, less our leases and what others run there. May be negative."""
    taken = leases.slots(member.report.replica_id, key) + member.foreign.get(key.name, 0)
    return capacity(member.report.models[key.name]) - taken


def foreign_slots(member: Member, leases: LeaseBook, now_s: float) -> dict[str, int]:
    """By model: slots in use, as a report that has just arrived says, that are none of our leases.

    Reports and leases cross on their way: one that was granted a moment ago may be in the report or not, and so may one
    that has ended. Where that leaves it open how many are others', what was believed before still holds.
    """
    report = member.report
    foreign = {}
    for name, model in report.models.items():
        before = member.foreign.get(name, 0)
        if not model.slots_used and not before:
            continue
        fewest, most = leases.echo(report.replica_id, ModelKey(report.modality, name), now_s)
        others = min(max(before, model.slots_used - most), max(0, model.slots_used - fewest))
        if others:
            foreign[name] = others
    return foreign


def can_load(member: Member, key: ModelKey, leases: LeaseBook) -> bool:
    """Whether a replica can load a model without waiting until something that runs there has ended.

    It can where nothing runs, where memory is free, or where enough models are loaded that nobody uses; loads that were
    asked for and are not reported yet come first.
    """
    report = member.report
    running = leases.running(report.replica_id)
    if not running and not any(member.foreign.values()):
        return True
    coming = [
        report.models[other.name]
        for other in running
        if other.name in report.models and other != key and report.models[other.name].load is not Load.LOADED
    ]
    needs_bytes = [report.models[key.name].memory_bytes, *(model.memory_bytes for model in coming)]
    if all(needs_bytes) and sum(needs_bytes) <= report.free_bytes:
        return True
    idle = sum(
        model.load is Load.LOADED
        and not model.pinned
        and not model.slots_used
        and ModelKey(report.modality, name) not in running
        for name, model in report.models.items()
    )
    return idle > len(coming)
