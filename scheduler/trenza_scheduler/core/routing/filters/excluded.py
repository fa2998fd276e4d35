"""The replica has not just failed this very request, unless there is no other."""

from __future__ import annotations

from collections.abc import Iterable

from trenza_scheduler.core.routing.candidate import Candidate, Need
from trenza_scheduler.core.routing.filters import health, model


def allows(need: Need, candidate: Candidate) -> bool:
    """`need.excluded` is what `binding` left of the ticket's wish."""
    return candidate.replica_id not in need.excluded


def binding(need: Need, candidates: Iterable[Candidate]) -> frozenset[str]:
    """The exclusions that count: all while another live replica serves the model, even a full one; else none."""
    for candidate in candidates:
        if (
            candidate.replica_id not in need.excluded
            and health.allows(need, candidate)
            and model.allows(need, candidate)
        ):
            return need.excluded
    return frozenset()
