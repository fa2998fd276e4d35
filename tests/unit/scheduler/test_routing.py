"""Filters, scorers and the choice, as tables."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from trenza_scheduler.core.domain import Health, Load, Priority
from trenza_scheduler.core.routing import route as routing
from trenza_scheduler.core.routing.candidate import Candidate, Need
from trenza_scheduler.core.routing.filters import excluded, health, load, model, pause, room
from trenza_scheduler.core.routing.route import FILTERS, SCORERS, explain, route
from trenza_scheduler.core.routing.scorers import free_slots, loaded, prefix, queue, session


def replica(name: str = "a", **facts: Any) -> Candidate:
    usual: dict[str, Any] = {
        "replica_id": name, "generation": 1, "health": Health.LIVE, "load": Load.LOADED, "slots": 4, "free_slots": 4,
    }  # fmt: skip
    return Candidate(**{**usual, **facts})


COLD = {"load": Load.LOADABLE}


@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        ({}, True),
        ({"load": Load.LOADABLE}, True),
        ({"load": Load.FAILED, "slots": 1}, True),
        ({"load": Load.UNKNOWN}, False),
        ({"slots": 0}, False),
    ],
)
def test_model(facts: dict[str, Any], allowed: bool) -> None:
    assert model.allows(Need(), replica(**facts)) is allowed


@pytest.mark.parametrize(("state", "allowed"), [(Health.LIVE, True), (Health.SUSPECT, False), (Health.DRAINING, False)])
def test_health(state: Health, allowed: bool) -> None:
    assert health.allows(Need(), replica(health=state)) is allowed


@pytest.mark.parametrize(("paused", "allowed"), [(False, True), (True, False)])
def test_pause(paused: bool, allowed: bool) -> None:
    assert pause.allows(Need(), replica(paused=paused)) is allowed


@pytest.mark.parametrize(
    ("wanted", "slots", "free", "allowed"),
    [(1, 4, 1, True), (1, 4, 0, False), (1, 4, -2, False), (2, 4, 1, False), (9, 4, 4, True), (9, 4, 3, False)],
)
def test_room(wanted: int, slots: int, free: int, allowed: bool) -> None:
    assert room.allows(Need(slots=wanted), replica(slots=slots, free_slots=free)) is allowed


@pytest.mark.parametrize(
    ("need", "facts", "allowed"),
    [
        ({"loaded_elsewhere": True}, {}, True),
        ({"loaded_elsewhere": True}, {"load": Load.LOADING}, True),
        ({}, COLD, True),
        ({}, {"load": Load.UNLOADING}, True),
        ({"loaded_elsewhere": True}, COLD, False),
        ({"loaded_elsewhere": True, "patient": False}, COLD, True),
        ({"loaded_elsewhere": True, "priority": Priority.URGENT}, COLD, True),
        ({}, {**COLD, "can_load": False}, False),
        ({"patient": False}, {**COLD, "can_load": False}, True),
        ({}, {**COLD, "rivals": Priority.NORMAL}, False),
        ({}, {**COLD, "rivals": Priority.BACKGROUND}, True),
        ({"priority": Priority.BACKGROUND}, {**COLD, "rivals": Priority.BACKGROUND}, False),
        ({"priority": Priority.URGENT}, {**COLD, "rivals": Priority.URGENT}, True),
    ],
)
def test_load(need: dict[str, Any], facts: dict[str, Any], allowed: bool) -> None:
    assert load.allows(Need(**need), replica(**facts)) is allowed


@pytest.mark.parametrize(
    ("others", "binding"),
    [
        ([replica("b")], True),
        ([replica("b", free_slots=0)], True),
        ([replica("b", health=Health.SUSPECT)], False),
        ([replica("b", load=Load.UNKNOWN)], False),
        ([], False),
    ],
    ids=["another", "another that is full", "another that is suspect", "another of unknown state", "none"],
)
def test_excluded(others: list[Candidate], binding: bool) -> None:
    need = Need(excluded=frozenset({"a"}))
    left = excluded.binding(need, [replica("a"), *others])
    assert left == (need.excluded if binding else frozenset())
    assert excluded.allows(need._replace(excluded=left), replica("a")) is not binding


@pytest.mark.parametrize(
    ("state", "score"), [(Load.LOADED, 1.0), (Load.LOADING, 0.5), (Load.LOADABLE, 0.0), (Load.FAILED, 0.0)]
)
def test_loaded(state: Load, score: float) -> None:
    assert loaded.score(Need(), replica(load=state)) == score


@pytest.mark.parametrize(
    ("slots", "free", "score"), [(4, 4, 1.0), (4, 1, 0.25), (4, 0, 0.0), (4, -1, 0.0), (0, 0, 0.0), (2, 3, 1.0)]
)
def test_free_slots(slots: int, free: int, score: float) -> None:
    assert free_slots.score(Need(), replica(slots=slots, free_slots=free)) == score


@pytest.mark.parametrize(("share", "score"), [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (2.0, 0.0)])
def test_queue(share: float, score: float) -> None:
    assert queue.score(Need(), replica(queue_share=share)) == score


@pytest.mark.parametrize(("process", "score"), [(("a", 1), 1.0), (("a", 2), 0.0), (("b", 1), 0.0), (None, 0.0)])
def test_session(process: tuple[str, int] | None, score: float) -> None:
    assert session.score(Need(session=process), replica("a", generation=1)) == score


@pytest.mark.parametrize(("shares", "score"), [({("a", 1): 0.5}, 0.5), ({("a", 2): 0.5}, 0.0), ({}, 0.0)])
def test_prefix(shares: dict[tuple[str, int], float], score: float) -> None:
    assert prefix.score(Need(prefixes=shares), replica("a", generation=1)) == score


@pytest.mark.parametrize(
    ("need", "replicas", "chosen"),
    [
        (Need(), [replica("a", **COLD), replica("b", free_slots=1)], "b"),
        (Need(), [replica("a", free_slots=1), replica("b", free_slots=3)], "b"),
        (Need(), [replica("a", queue_share=0.5), replica("b")], "b"),
        (Need(session=("a", 1)), [replica("a", free_slots=3), replica("b")], "a"),
        (Need(session=("a", 1)), [replica("a", free_slots=1), replica("b")], "b"),
        (Need(prefixes={("a", 1): 1.0}), [replica("a", free_slots=2), replica("b")], "a"),
        (Need(prefixes={("a", 1): 1.0}), [replica("a", free_slots=0), replica("b")], "b"),
        (Need(excluded=frozenset("a")), [replica("a"), replica("b", free_slots=0)], None),
        (Need(excluded=frozenset("a")), [replica("a")], "a"),
        (Need(), [], None),
    ],
)
def test_choice(need: Need, replicas: list[Candidate], chosen: str | None) -> None:
    choice = route(need, replicas, Random(1)).chosen
    assert (choice.replica_id if choice else None) == chosen


def test_ties_share_the_work_evenly() -> None:
    rng = Random(1)
    replicas = [replica(name) for name in "abcd"]
    chosen = Counter(choice.replica_id for _ in range(4000) if (choice := route(Need(), replicas, rng).chosen))
    assert set(chosen) == set("abcd")
    assert max(chosen.values()) - min(chosen.values()) < 300


def test_weights_add_up_to_one_and_scores_stay_between_0_and_1() -> None:
    assert sum(weight for _, weight, _ in SCORERS) == pytest.approx(1.0)
    dice = Random(5)
    for _ in range(500):
        candidate = replica(
            load=dice.choice(list(Load)),
            slots=dice.randrange(-1, 5),
            free_slots=dice.randrange(-5, 9),
            queue_share=dice.random() * 3,
        )
        need = Need(session=dice.choice([None, ("a", 1)]), prefixes={("a", 1): dice.random()})
        assert all(0.0 <= score(need, candidate) <= 1.0 for _, _, score in SCORERS)
        assert 0.0 <= routing.total(need, candidate) <= 1.0


def test_explanation_names_the_first_filter_and_every_score() -> None:
    replicas = [
        replica("full", free_slots=0), replica("good"), replica("better", queue_share=0, free_slots=4),
        replica("suspect", health=Health.SUSPECT, free_slots=0), replica("half", free_slots=2),
    ]  # fmt: skip
    choice = route(Need(), replicas, Random(1))
    explained = explain(choice, replicas, 10)
    assert choice.chosen is not None
    assert explained[0].replica_id == choice.chosen.replica_id
    assert [e.replica_id for e in explained[2:]] == ["half", "full", "suspect"]
    assert {e.replica_id: e.ruled_out_by for e in explained if e.ruled_out_by} == {"full": "room", "suspect": "health"}
    assert [name for name, _ in explained[0].scores] == [name for name, _, _ in SCORERS]
    assert len(explain(choice, replicas, 2)) == 2
    assert {name for name, _ in FILTERS} >= {e.ruled_out_by for e in explained if e.ruled_out_by}
