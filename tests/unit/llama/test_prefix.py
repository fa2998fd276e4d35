from __future__ import annotations

import pytest
from trenza_llama.core.prefix import SlotChoice, SlotContent, choose_slot, shared_length


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1], [2], 0),
        ([1, 2], [1], 1),
        ([1, 2, 3], [1, 2, 4], 2),
        ([1, 2, 3], [1, 2, 3], 3),
        ([9, 2, 3], [1, 2, 3], 0),
        (list(range(1000)), [*range(777), -1, *range(778, 1000)], 777),
    ],
)
def test_shared_length(left: list[int], right: list[int], expected: int) -> None:
    assert shared_length(left, right) == expected
    assert shared_length(right, left) == expected


def slot(index: int, tokens: list[int], last_used: int = 0, free: bool = True) -> SlotContent:
    return SlotContent(index, tokens, last_used, free)


LONG = [1, 2, 9, 9, 9, 9, 9, 9]


@pytest.mark.parametrize(
    ("prompt", "slots", "expected"),
    [
        pytest.param([1, 2, 3], [slot(0, [], 5), slot(1, [1, 2], 9)], (1, 2), id="longest shared beginning"),
        pytest.param([1, 2, 3], [slot(0, [1], 9), slot(1, [1, 2], 5)], (1, 2), id="longer beats more recent"),
        pytest.param([7, 8], [slot(0, [1], 9), slot(1, [2], 5)], (1, 0), id="nothing shared: least recent"),
        pytest.param([7, 8], [slot(0, [1], 1), slot(1, [], 5)], (1, 0), id="nothing shared: empty first"),
        pytest.param([1, 2], [slot(0, [1, 2], 9), slot(1, [1, 2], 5)], (1, 2), id="equal: least recent"),
        pytest.param([1, 2], [slot(1, [], 0), slot(0, [], 0)], (0, 0), id="equal in all: lowest number"),
        pytest.param([1, 2, 3], [slot(0, [1, 2, 3], 1, free=False), slot(1, [], 5)], (1, 0), id="free slots only"),
        pytest.param([1, 2, 3, 4], [slot(0, LONG, 1), slot(1, [], 5)], (1, 0), id="long conversations are kept"),
        pytest.param([1, 2, 3, 4], [slot(0, LONG, 1)], (0, 2), id="unless there is no other slot"),
    ],
)
def test_choice_without_copying(prompt: list[int], slots: list[SlotContent], expected: tuple[int, int]) -> None:
    index, shared = expected
    assert choose_slot(prompt, slots, None) == SlotChoice(index, shared, source=index)


@pytest.mark.parametrize(
    ("prompt", "slots", "expected"),
    [
        pytest.param([1, 2, 3, 4], [slot(0, LONG, 1), slot(1, [], 5)], SlotChoice(1, 2, 0), id="from a free slot"),
        pytest.param(
            [1, 2, 3], [slot(0, [1, 2, 3], 1, free=False), slot(1, [7], 5)], SlotChoice(1, 3, 0), id="from a busy slot"
        ),
        pytest.param([1, 7], [slot(0, LONG, 1), slot(1, [], 5)], SlotChoice(1, 0, 1), id="not worth it"),
        pytest.param(
            [1, 2, 3], [slot(0, [1, 2], 1), slot(1, [1, 2, 3, 4, 5, 6, 7], 5)], SlotChoice(0, 2, 0), id="hardly better"
        ),
        pytest.param([1, 2, 3], [slot(0, [1, 2, 3])], SlotChoice(0, 3, 0), id="never from itself"),
    ],
)
def test_choice_with_copying(prompt: list[int], slots: list[SlotContent], expected: SlotChoice) -> None:
    assert choose_slot(prompt, slots, worth_copying=2) == expected


@pytest.mark.parametrize("slots", [[], [slot(0, [1], free=False)]])
def test_no_free_slot_is_an_error(slots: list[SlotContent]) -> None:
    with pytest.raises(ValueError, match="no slot"):
        choose_slot([1], slots, None)
