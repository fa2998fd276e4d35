"""Who makes room for whom, and how long a failing model is left alone."""

from __future__ import annotations

import pytest
from trenza_runtime.models.core.backoff import Backoff
from trenza_runtime.models.core.plan import DoesNotFit, Load, Need, Resident, Wait, plan_load

GIB = 2**30


def resident(name: str, gib: int, idle_since_s: float = 0, in_use: bool = False, pinned: bool = False) -> Resident:
    return Resident(name, idle_since_s, in_use, pinned, {"cpu": gib * GIB})


def plan(need_gib: int, free_gib: int, *residents: Resident, count_limit: int = 9) -> object:
    return plan_load(Need({"cpu": need_gib * GIB}), residents, {"cpu": free_gib * GIB}, count_limit)


def test_what_fits_evicts_nobody() -> None:
    assert plan(2, 4, resident("idle", 2)) == Load()


def test_the_longest_idle_goes_first_and_no_more_than_needed() -> None:
    models = [
        resident("new", 2, idle_since_s=30),
        resident("old", 2, idle_since_s=10),
        resident("mid", 2, idle_since_s=20),
    ]
    assert plan(2, 1, *models) == Load(("old",))
    assert plan(4, 1, *models) == Load(("old", "mid"))


def test_a_small_old_one_stays_when_a_larger_one_has_to_go_anyway() -> None:
    assert plan(5, 1, resident("small", 1, 10), resident("large", 4, 20)) == Load(("large",))


def test_one_that_serves_is_waited_for_and_never_evicted() -> None:
    assert plan(4, 1, resident("serves", 4, in_use=True)) == Wait(("serves",))
    assert plan(4, 1, resident("serves", 4, in_use=True), resident("idle", 4)) == Load(("idle",))


def test_a_pinned_one_neither_makes_room_nor_is_waited_for() -> None:
    assert isinstance(plan(4, 1, resident("pinned", 4, pinned=True)), DoesNotFit)
    assert isinstance(plan(4, 1, resident("pinned", 4, pinned=True, in_use=True)), DoesNotFit)


def test_what_does_not_fit_says_how_much_is_missing() -> None:
    refused = plan(8, 1, resident("idle", 4))
    assert isinstance(refused, DoesNotFit)
    assert refused.message == "it needs 8.0 GiB on cpu, where 5.0 GiB can be had"


def test_the_count_limit_evicts_waits_and_refuses_alike() -> None:
    assert plan(1, 9, resident("idle", 1), count_limit=1) == Load(("idle",))
    assert plan(1, 9, resident("serves", 1, in_use=True), count_limit=1) == Wait(("serves",))
    assert isinstance(plan(1, 9, resident("pinned", 1, pinned=True), count_limit=1), DoesNotFit)


def test_only_memory_of_the_short_device_counts() -> None:
    on_cpu, on_gpu = (
        Resident("cpu", 1, False, False, {"cpu": GIB}),
        Resident("gpu", 2, False, False, {"cuda:0": 4 * GIB}),
    )
    free = {"cpu": 9 * GIB, "cuda:0": GIB}
    assert plan_load(Need({"cuda:0": 4 * GIB, "cpu": GIB}), [on_cpu, on_gpu], free, 9) == Load(("gpu",))


def test_an_estimate_may_lie_on_any_device() -> None:
    free = {"cpu": 2 * GIB, "cuda:0": 2 * GIB}
    assert plan_load(Need(estimated_bytes=3 * GIB), [], free, 9) == Load()
    assert isinstance(plan_load(Need(estimated_bytes=5 * GIB), [], free, 9), DoesNotFit)


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (2000, 60)])
def test_the_pause_doubles_up_to_a_minute(failures: int, pause_s: float) -> None:
    backoff = Backoff()
    for _ in range(failures):
        backoff.failed(now_s=100.0)
    assert backoff.remaining_s(100.0) == pause_s
    assert backoff.remaining_s(100.0 + pause_s / 2) == pause_s / 2
    assert backoff.remaining_s(200.0) == 0


def test_a_while_of_health_or_a_change_makes_the_past_forgotten() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(now_s=0.0)
    backoff.failed(now_s=100.0, healthy_for_s=61.0)
    assert backoff.remaining_s(100.0) == 1
    backoff.forget()
    assert (backoff.remaining_s(100.0), backoff.failures) == (0, 0)
