"""The pure decisions of dispatching, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trenza_gateway.dispatch.core.affinity import MAX_HASHES, prefix_hashes, size_estimate
from trenza_gateway.dispatch.core.context import cannot_fit
from trenza_gateway.dispatch.core.leases import Lease, LeaseBook
from trenza_gateway.dispatch.core.picture import Health, Picture, Readiness, Replica, succeed
from trenza_gateway.dispatch.core.retrying import Ending, Failure, judge, pause_s
from trenza_gateway.dispatch.core.routing import Need, Nowhere, choose

NEED = Need("m", 1, 1)


def replica(name: str, **changes: object) -> Replica:
    plain = Replica(
        replica_id=name,
        address=f"{name}:1",
        health=Health.LIVE,
        modality=1,
        models={"m": Readiness.LOADED},
        slots=4,
        queue_limit=4,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test's shorthand


def chosen(
    *replicas: Replica, need: Need = NEED, own: dict[str, int] | None = None, avoided: tuple[str, ...] = ()
) -> set[str]:
    """Every replica that some draw leads to, or the reason why there is none."""
    picture = Picture({item.replica_id: item for item in replicas}, settled=True)
    found = set()
    for first in (0.0, 0.4, 0.99):
        for second in (0.0, 0.4, 0.99):
            outcome = choose(picture, need, own or {}, avoided, (first, second))
            found.add(outcome.name if isinstance(outcome, Nowhere) else outcome.replica_id)
    return found


class TestRouting:
    def test_only_replicas_that_know_the_model(self) -> None:
        assert chosen(replica("a"), replica("b", models={"other": Readiness.LOADED})) == {"a"}
        assert chosen(replica("a", models={})) == {"UNKNOWN_MODEL"}
        assert chosen() == {"UNKNOWN_MODEL"}

    def test_only_the_right_modality(self) -> None:
        assert chosen(replica("a", modality=2)) == {"UNKNOWN_MODEL"}

    def test_loaded_before_loading_before_loadable(self) -> None:
        loaded, loading, cold = (
            replica(name, models={"m": readiness})
            for name, readiness in (("a", Readiness.LOADED), ("b", Readiness.LOADING), ("c", Readiness.LOADABLE))
        )
        assert chosen(cold, loading, loaded) == {"a"}
        assert chosen(cold, loading) == {"b"}
        assert chosen(cold) == {"c"}
        assert chosen(replica("d", models={"m": Readiness.ABSENT})) == {"NO_REPLICA"}

    def test_live_before_doubtful_and_closed_never(self) -> None:
        assert chosen(replica("a", health=Health.DOUBTFUL), replica("b")) == {"b"}
        assert chosen(replica("a", health=Health.DOUBTFUL)) == {"a"}
        assert chosen(replica("a", health=Health.CLOSED)) == {"NO_REPLICA"}

    def test_not_the_avoided(self) -> None:
        assert chosen(replica("a"), replica("b"), avoided=("a",)) == {"b"}
        assert chosen(replica("a"), avoided=("a",)) == {"NO_REPLICA"}

    def test_the_less_loaded_of_any_two(self) -> None:
        assert chosen(replica("a"), replica("b"), own={"a": 3, "b": 1}) == {"b"}
        assert chosen(replica("a"), replica("b", foreign_slots=2), own={"a": 1}) == {"a"}
        assert chosen(replica("a", slots=8), replica("b", slots=2), own={"a": 2, "b": 1}) == {"a"}
        assert chosen(replica("a"), replica("b"), replica("c"), own={"a": 4}) == {"b", "c"}
        assert chosen(replica("a"), replica("b")) == {"a", "b"}

    def test_not_beyond_slots_and_queue(self) -> None:
        assert chosen(replica("a"), own={"a": 8}) == {"FULL"}
        assert chosen(replica("a"), own={"a": 7}) == {"a"}
        assert chosen(replica("a"), need=Need("m", 1, 16)) == {"a"}, "an idle replica judges for itself"
        assert chosen(replica("a"), need=Need("m", 1, 16), own={"a": 1}) == {"FULL"}


def test_an_unsettled_picture_keeps_what_it_does_not_know() -> None:
    assert succeed({"a": 1, "b": 2}, {"b": 3}, settled=False) == {"a": 1, "b": 3}
    assert succeed({"a": 1, "b": 2}, {"b": 3}, settled=True) == {"b": 3}


class TestRetrying:
    @pytest.mark.parametrize(
        ("code", "reason", "ending", "again"),
        [
            ("UNAVAILABLE", "ENGINE_CRASHED", Ending.REPLICA_FAILED, True),
            ("UNAVAILABLE", "REPLICA_UNREACHABLE", Ending.REPLICA_FAILED, True),
            ("UNAVAILABLE", "UNAVAILABLE", Ending.REPLICA_FAILED, True),
            ("UNAVAILABLE", "MODEL_LOAD_FAILED", Ending.REPLICA_FAILED, True),
            ("UNAVAILABLE", "DRAINING", Ending.REPLICA_BUSY, True),
            ("RESOURCE_EXHAUSTED", "QUEUE_FULL", Ending.REPLICA_BUSY, True),
            ("CANCELLED", "CANCELLED", Ending.REPLICA_FAILED, True),
            ("INTERNAL", "INTERNAL", Ending.REPLICA_FAILED, False),
            ("UNKNOWN", "UNKNOWN", Ending.REPLICA_FAILED, False),
            ("INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED", Ending.CLIENT_ERROR, False),
            ("NOT_FOUND", "MODEL_NOT_FOUND", Ending.CLIENT_ERROR, False),
            ("UNIMPLEMENTED", "UNIMPLEMENTED", Ending.CLIENT_ERROR, False),
            ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", Ending.DEADLINE_EXCEEDED, False),
        ],
    )
    def test_before_the_first_message(self, code: str, reason: str, ending: Ending, again: bool) -> None:
        verdict = judge(Failure(code, reason, begun=False), attempts=1, attempt_limit=3, waits_for_room=False)
        assert (verdict.ending, verdict.again) == (ending, again)
        assert not judge(Failure(code, reason, begun=True), 1, 3, False).again

    def test_attempts_end(self) -> None:
        crash = Failure("UNAVAILABLE", "ENGINE_CRASHED", begun=False)
        assert [judge(crash, attempts, 3, True).again for attempts in (1, 2, 3)] == [True, True, False]

    def test_waiting_for_room_costs_no_attempt(self) -> None:
        full = Failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", begun=False)
        assert judge(full, 3, 3, waits_for_room=True).again
        assert not judge(full, 3, 3, waits_for_room=True).counts
        assert not judge(full, 3, 3, waits_for_room=False).again

    def test_pauses_double_up_to_the_most(self) -> None:
        assert [pause_s(attempt, 0.1, 1.0, 0.999999) for attempt in (1, 2, 3, 4, 5, 99)] == pytest.approx(
            [0.1, 0.2, 0.4, 0.8, 1.0, 1.0], rel=1e-3
        )
        assert pause_s(1, 0.1, 1.0, 0.0) == 0.05


def lease(lease_id: str, slots: int = 1, replica_id: str = "a", from_scheduler: bool = True) -> Lease:
    return Lease(lease_id, f"r-{lease_id}", replica_id, "a:1", "m", 1, slots, from_scheduler)


class TestLeaseBook:
    def test_counts_slots_by_replica(self) -> None:
        book = LeaseBook()
        for item in (lease("1", 2), lease("2"), lease("3", 1, "b")):
            book.enter(item)
        assert dict(book.slots_by_replica) == {"a": 3, "b": 1}
        book.end("1")
        book.end("3")
        assert dict(book.slots_by_replica) == {"a": 1}
        assert len(book) == 1

    def test_a_lease_ends_once(self) -> None:
        book = LeaseBook()
        book.enter(lease("1"))
        assert book.end("1")
        assert not book.end("1")
        assert not book.end("never")
        assert dict(book.slots_by_replica) == {}

    def test_the_scheduler_is_told_of_what_it_knows(self) -> None:
        book = LeaseBook()
        book.enter(lease("own", from_scheduler=False))
        assert not book.end("own"), "it never heard of it"
        book.enter(lease("old"))
        book.enter(lease("own", from_scheduler=False))
        book.forget_announcements()
        book.enter(lease("later", from_scheduler=False))
        assert {item.lease_id for item in book.announce()} == {"old", "own", "later"}
        assert all(book.end(name) for name in ("old", "own", "later"))

    def test_nothing_is_released_while_the_scheduler_is_away(self) -> None:
        book = LeaseBook()
        book.enter(lease("1"))
        book.forget_announcements()
        assert not book.end("1")


class TestAffinity:
    def test_conversations_share_their_beginning(self) -> None:
        first = prefix_hashes([b"system", b"hello"])
        second = prefix_hashes([b"system", b"hello", b"answer", b"more"])
        assert second[:2] == first
        assert len(set(second)) == 4

    def test_borders_between_turns_matter(self) -> None:
        assert prefix_hashes([b"ab", b"c"])[-1] != prefix_hashes([b"a", b"bc"])[-1]

    def test_long_texts_have_several_beginnings_but_never_too_many(self) -> None:
        one, other = b"x" * 10_000, b"x" * 9_000 + b"y" * 1_000
        assert prefix_hashes([one])[:2] == prefix_hashes([other])[:2]
        assert prefix_hashes([one])[2] != prefix_hashes([other])[2]
        assert len(prefix_hashes([b"x"] * 1000)) == MAX_HASHES

    def test_sizes(self) -> None:
        assert size_estimate(400, 50, 2) == 200
        assert size_estimate(2**40, None, 1) == 2**32 - 1


def test_only_what_cannot_possibly_fit_is_refused() -> None:
    assert not cannot_fit(512 * 256, 512)
    assert cannot_fit(512 * 256 + 1, 512)
    assert not cannot_fit(10**9, 0)
