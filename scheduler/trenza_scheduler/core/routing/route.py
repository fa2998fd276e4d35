"""Takes the best replica and can say why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nsmallest
from random import Random
from typing import NamedTuple

from trenza_scheduler.core.domain import Candidate as Explained
from trenza_scheduler.core.routing.candidate import Candidate, Need
from trenza_scheduler.core.routing.filters import excluded, health, load, model, pause, room
from trenza_scheduler.core.routing.scorers import free_slots, loaded, prefix, queue, session

Filter = Callable[[Need, Candidate], bool]
Scorer = Callable[[Need, Candidate], float]

FILTERS: tuple[tuple[str, Filter], ...] = (
    ("model", model.allows),
    ("health", health.allows),
    ("excluded", excluded.allows),
    ("pause", pause.allows),
    ("room", room.allows),
    ("load", load.allows),
)
"""In the order in which they are asked, by the names under which they are explained."""

# A loaded model outweighs all else. A warm cache outweighs half of the slots, and not a nearly full replica.
SCORERS: tuple[tuple[str, float, Scorer], ...] = (
    ("loaded", 0.5, loaded.score),
    ("free_slots", 0.2, free_slots.score),
    ("prefix", 0.15, prefix.score),
    ("session", 0.1, session.score),
    ("queue", 0.05, queue.score),
)
"""With their weights, which add up to 1."""

_TIE = 1e-9


class Choice(NamedTuple):
    """The replica that was chosen, None where all were ruled out; and what was thought of each, in the candidates' order."""

    chosen: Candidate | None
    verdicts: list[str]
    """The name of the filter that ruled it out, empty where none did."""
    totals: list[float]
    """The weighted sum of its scores, 0 where it was ruled out."""
    need: Need


def route(need: Need, candidates: Sequence[Candidate], rng: Random) -> Choice:
    """Filters, scores and picks; ties are broken at random, so that equals share the work."""
    need = need._replace(excluded=excluded.binding(need, candidates)) if need.excluded else need
    verdicts = [ruled_out_by(need, candidate) for candidate in candidates]
    totals = [
        0.0 if verdict else total(need, candidate) for candidate, verdict in zip(candidates, verdicts, strict=True)
    ]
    fit = [place for place, verdict in enumerate(verdicts) if not verdict]
    if not fit:
        return Choice(None, verdicts, totals, need)
    best = max(totals[place] for place in fit)
    equals = [place for place in fit if totals[place] >= best - _TIE]
    return Choice(candidates[rng.choice(equals)], verdicts, totals, need)


def ruled_out_by(need: Need, candidate: Candidate) -> str:
    """The name of the first filter that does not allow the replica; empty where all do."""
    for name, allows in FILTERS:
        if not allows(need, candidate):
            return name
    return ""


def total(need: Need, candidate: Candidate) -> float:
    """The weighted sum of the scores, 0 to 1."""
    value = 0.0
    for _, weight, score in SCORERS:
        value += weight * score(need, candidate)
    return value


def explain(choice: Choice, candidates: Sequence[Candidate], most: int) -> tuple[Explained, ...]:
    """What people are shown: the chosen one, then the others, the best first and those that were ruled out last; `most` of them."""

    def rank(place: int) -> tuple[bool, bool, float]:
        return candidates[place] is not choice.chosen, bool(choice.verdicts[place]), -choice.totals[place]

    shown = nsmallest(most, range(len(candidates)), key=rank)
    return tuple(_explained(choice, candidates[place], place) for place in shown)


def _explained(choice: Choice, candidate: Candidate, place: int) -> Explained:
    if choice.verdicts[place]:
        return Explained(candidate.replica_id, ruled_out_by=choice.verdicts[place])
    scores = tuple((name, score(choice.need, candidate)) for name, _, score in SCORERS)
    return Explained(candidate.replica_id, score=choice.totals[place], scores=scores)
