"""Takes the best replica and can say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from trenza_scheduler.core.domain import Candidate, Ticket
from trenza_scheduler.core.routing.filters import FILTERS
from trenza_scheduler.core.routing.scorers import SCORERS
from trenza_scheduler.core.routing.views import ReplicaView

_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Choice:
    """The replica that was chosen, None where all were ruled out; and all candidates, best first."""

    replica: ReplicaView | None
    candidates: tuple[Candidate, ...]


def choose(ticket: Ticket, replicas: Sequence[ReplicaView], rng: Random) -> Choice:
    """Filters, scores and picks; ties are broken at random, so that equals share the work."""
    judged = [(_judge(ticket, replica), replica) for replica in replicas]
    fit = [(candidate, replica) for candidate, replica in judged if not candidate.ruled_out_by]
    ordered = sorted(
        (candidate for candidate, _ in judged), key=lambda c: (bool(c.ruled_out_by), -c.score, c.replica_id)
    )
    if not fit:
        return Choice(None, tuple(ordered))
    best = max(candidate.score for candidate, _ in fit)
    equals = [replica for candidate, replica in fit if candidate.score >= best - _TIE]
    return Choice(rng.choice(equals), tuple(ordered))


def _judge(ticket: Ticket, replica: ReplicaView) -> Candidate:
    for name, passes in FILTERS.items():
        if not passes(ticket, replica):
            return Candidate(replica.replica_id, ruled_out_by=name)
    scores = {name: scorer.value(ticket, replica) for name, scorer in SCORERS.items()}
    total = sum(SCORERS[name].weight * value for name, value in scores.items())
    return Candidate(replica.replica_id, score=total, scores=scores)
