"""Who goes next, and who shares the pass."""

from __future__ import annotations

import pytest
from trenza_images.core.sharing import PassLimit, Pending, choose


@pytest.mark.parametrize(
    ("pending", "limit", "chosen"),
    [
        ([], 10, []),
        ([Pending("a", 5, 4)], 10, [0]),
        ([Pending("a", 5, 99)], 10, [0]),  # too large, and yet somebody has to go
        ([Pending("a", 5, 4), Pending("a", 3, 4)], 10, [1, 0]),
        ([Pending("a", 5, 4), Pending("b", 3, 4), Pending("a", 9, 4)], 10, [1]),  # the longest wait first
        ([Pending("a", 5, 4), Pending("b", 6, 4), Pending("a", 9, 4)], 10, [0, 2]),
        ([Pending("a", 1, 4), Pending("a", 2, 4), Pending("a", 3, 4)], 10, [0, 1]),
        ([Pending("a", 1, 6), Pending("a", 2, 6), Pending("a", 3, 4)], 10, [0, 2]),  # a smaller one fills the rest
        ([Pending(None, 1, 4), Pending(None, 2, 4)], 10, [0]),  # these go alone
        ([Pending("a", 1, 4), Pending(None, 7, 4, False)], 10, [1]),  # what is no step first
        ([Pending("a", 1, 4), Pending("t", 7, 0, False), Pending("t", 8, 0, False)], 10, [1, 2]),
    ],
)
def test_choices(pending: list[Pending], limit: int, chosen: list[int]) -> None:
    assert choose(pending, limit) == chosen


def test_every_group_has_its_turn() -> None:
    since = {"a": 0, "b": 0, "c": 0}
    served: list[str] = []
    for turn in range(1, 10):
        names = list(since)
        (position,) = choose([Pending(name, since[name], 4) for name in names], 4)
        served.append(names[position])
        since[names[position]] = turn
    assert {name: served.count(name) for name in since} == {"a": 3, "b": 3, "c": 3}


def test_the_limit_falls_when_a_pass_does_not_fit_and_rises_again() -> None:
    limit = PassLimit(1000)
    limit.did_not_fit(800)
    assert limit.pixels == 400
    limit.did_not_fit(3000)
    assert limit.pixels == 400
    for _ in range(500):
        limit.fitted()
    assert limit.pixels == 800
    for _ in range(500):
        limit.fitted()
    assert limit.pixels == 1000
    limit.did_not_fit(0)
    assert limit.pixels == 0
    for _ in range(500):
        limit.fitted()
    assert limit.pixels == 1
