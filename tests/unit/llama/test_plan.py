from __future__ import annotations

import random

import pytest
from trenza_llama.core.plan import Prefill, Share, plan_batch


@pytest.mark.parametrize(
    ("decoding", "prefilling", "batch_tokens", "prefill_tokens", "expected"),
    [
        pytest.param([], [], 8, 8, [], id="nothing to do"),
        pytest.param([2, 5], [], 8, 8, [(2, 1), (5, 1)], id="one token for each that generates"),
        pytest.param([], [(0, 5)], 8, 2, [(0, 5)], id="a prompt alone may use the whole batch"),
        pytest.param([], [(0, 50)], 8, 2, [(0, 8)], id="a long prompt in pieces"),
        pytest.param([1], [(0, 50)], 8, 3, [(1, 1), (0, 3)], id="beside answers prompts get less"),
        pytest.param([1], [(0, 50)], 3, 8, [(1, 1), (0, 2)], id="never more than the batch"),
        pytest.param([1, 2], [(0, 50)], 2, 8, [(1, 1), (2, 1)], id="no room for a prompt"),
        pytest.param([], [(0, 50), (1, 50)], 8, 8, [(0, 4), (1, 4)], id="long prompts share equally"),
        pytest.param([], [(0, 50), (1, 2)], 8, 8, [(0, 6), (1, 2)], id="a short one gets all it needs"),
        pytest.param([], [(0, 50), (1, 50), (2, 50)], 8, 8, [(0, 3), (1, 3), (2, 2)], id="what is left over is used"),
        pytest.param([], [(0, 50), (1, 50), (2, 50)], 2, 8, [(0, 1), (1, 1)], id="more prompts than room"),
    ],
)
def test_shares(
    decoding: list[int],
    prefilling: list[tuple[int, int]],
    batch_tokens: int,
    prefill_tokens: int,
    expected: list[tuple[int, int]],
) -> None:
    plan = plan_batch(decoding, [Prefill(*one) for one in prefilling], batch_tokens, prefill_tokens)
    assert [(share.slot, share.count) for share in plan] == expected


def test_a_limited_prompt_leaves_the_rest_to_others() -> None:
    plan = plan_batch([], [Prefill(0, 50, most=2), Prefill(1, 50)], 16, 16)
    assert plan == (Share(0, 2), Share(1, 14))


def test_too_many_answers_for_the_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        plan_batch([0, 1, 2], [], 2, 2)


@pytest.mark.parametrize("seed", range(50))
def test_limits_hold_for_any_demand(seed: int) -> None:
    draw = random.Random(seed)
    decoding = list(range(draw.randint(0, 6)))
    prefilling = [
        Prefill(10 + index, draw.randint(1, 40), draw.choice([None, 3])) for index in range(draw.randint(0, 6))
    ]
    batch_tokens, prefill_tokens = draw.randint(6, 40), draw.randint(1, 40)
    shares = plan_batch(decoding, prefilling, batch_tokens, prefill_tokens)
    counts = {share.slot: share.count for share in shares}
    assert len(counts) == len(shares)
    assert all(counts[slot] == 1 for slot in decoding)
    assert sum(counts.values()) <= batch_tokens
    room = batch_tokens - len(decoding)
    room = min(room, prefill_tokens) if decoding else room
    given = {prefill.slot: counts.get(prefill.slot, 0) for prefill in prefilling}
    assert sum(given.values()) == min(room, sum(prefill.wanted for prefill in prefilling))
    for prefill in prefilling:
        if given[prefill.slot] < prefill.wanted:  # whoever gets less than it wants gets no less than the others
            assert given[prefill.slot] >= max(given.values()) - 1
