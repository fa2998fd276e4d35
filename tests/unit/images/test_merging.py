"""Calls made as one give each caller what it would have got alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.utils import BaseOutput
from trenza_images.engines.merging import Call, Grouping, run_together


class Adding(torch.nn.Module):
    """Adds to each row its time and what belongs to it, and tells what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, sample: torch.Tensor, time: torch.Tensor, extra: Any = None, **_: Any) -> tuple[Any, ...]:
        self.seen.append(tuple(sample.shape))
        shift = time if time.ndim == 0 else time.view(-1, 1)
        added = sample + shift + (0 if extra is None else extra["text"])
        return added, {"double": added * 2}, [added.sum(1)], "constant"


def call(module: torch.nn.Module, rows: int, time: float, value: float, **kwargs: Any) -> Call:
    extra = {"text": torch.full((rows, 4), value)}
    return Call(module, (torch.full((rows, 4), value), torch.tensor(time)), {"extra": extra, **kwargs})


def test_rows_are_stacked_and_handed_back() -> None:
    module = Adding()
    calls = [call(module, 1, 10.0, 1.0), call(module, 2, 20.0, 2.0), call(module, 1, 30.0, 3.0)]
    alone = [one.run() for one in calls]
    module.seen.clear()
    together = run_together(calls)
    assert module.seen == [(4, 4)]
    for expected, got in zip(alone, together, strict=True):
        assert torch.equal(expected[0], got[0])
        assert torch.equal(expected[1]["double"], got[1]["double"])
        assert torch.equal(expected[2][0], got[2][0])
        assert got[3] == "constant"


def test_outputs_with_attributes_keep_them() -> None:
    class Output(BaseOutput):  # type: ignore[misc]  # diffusers has no types
        sample: torch.Tensor

    class Wrapping(torch.nn.Module):
        def forward(self, sample: torch.Tensor) -> Output:
            return Output(sample=sample + 1)

    module = Wrapping()
    first, second = run_together([Call(module, (torch.zeros(1, 2),), {}), Call(module, (torch.ones(1, 2),), {})])
    assert isinstance(first, Output)
    assert (first.sample.tolist(), second.sample.tolist()) == ([[1.0, 1.0]], [[2.0, 2.0]])


def test_calls_of_a_kind_share_a_group() -> None:
    module, grouping = Adding(), Grouping()
    first, second = call(module, 1, 10.0, 1.0), call(module, 2, 20.0, 2.0)
    assert grouping.group_of(first) == grouping.group_of(second) is not None


SHARED = torch.arange(30.0).view(10, 3)


@pytest.mark.parametrize(
    "other",
    [
        lambda module: call(Adding(), 1, 1.0, 1.0),
        lambda module: call(module, 1, 1.0, 1.0, option="another"),
        lambda module: call(module, 1, 1.0, 1.0, ids=SHARED),
        lambda module: Call(module, (torch.zeros(1, 5), torch.tensor(1.0)), {"extra": {"text": torch.zeros(1, 5)}}),
        lambda module: Call(
            module, (torch.zeros(1, 4).double(), torch.tensor(1.0)), {"extra": {"text": torch.zeros(1, 4)}}
        ),
    ],
)
def test_calls_of_different_kinds_do_not(other: Any) -> None:
    module, grouping = Adding(), Grouping()
    assert grouping.group_of(call(module, 1, 1.0, 1.0)) != grouping.group_of(other(module))


def test_what_all_rows_share_must_be_equal() -> None:
    module, grouping = Adding(), Grouping()
    one, same, different = (call(module, 1, 1.0, 1.0, ids=ids) for ids in (SHARED, SHARED.clone(), SHARED + 1))
    assert grouping.group_of(one) == grouping.group_of(same)
    assert grouping.group_of(one) != grouping.group_of(different)


@pytest.mark.parametrize("strange", [[1, 2], object(), [torch.zeros(1, 2)]])
def test_what_nobody_understands_goes_alone(strange: object) -> None:
    assert Grouping().group_of(call(Adding(), 1, 1.0, 1.0, strange=strange)) is None
    assert Grouping().group_of(Call(Adding(), (), {})) is None
