"""Forward passes of different drawings made as one: their rows are stacked, and the outcome is handed back row by row.

A pass can be shared where nothing in it depends on the other rows: modules in evaluation, called with tensors whose first dimension
counts rows, or with values that are equal for all. Whatever looks different is not shared, which is slower and never wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


@dataclass(eq=False)
class Call:
    """A module's forward pass that a drawing waits for."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def rows(self) -> int:
        """The rows of the first tensor that has any; 0 without one."""
        return next((len(tensor) for tensor in _tensors((self.args, self.kwargs)) if tensor.ndim >= 2), 0)

    def run(self) -> Any:
        """Makes the pass for this drawing alone."""
        return self.module(*self.args, **self.kwargs)


class _Unshareable(Exception):
    """The call holds something of which nobody knows what it means for a row."""


class Grouping:
    """Says which calls can share a pass. Remembers what tensors hold that all rows share, since the same ones come every step."""

    def __init__(self) -> None:
        self._contents = WeakTensorKeyDictionary()

    def group_of(self, call: Call) -> Hashable | None:
        """Equal for calls that can be made as one; None for one that has to go alone."""
        rows = call.rows()
        if not rows:
            return None
        try:
            return id(call.module), self._shape((call.args, call.kwargs), rows)
        except _Unshareable:
            return None

    def _shape(self, value: Any, rows: int) -> Hashable:
        match value:
            case torch.Tensor():
                return (value.dtype, value.device, *self._tensor_shape(value, rows))
            case Mapping():
                return tuple((key, self._shape(inner, rows)) for key, inner in value.items())
            case tuple():
                return tuple(self._shape(inner, rows) for inner in value)
            case _ if isinstance(value, _PLAIN):
                return type(value), value
        raise _Unshareable

    def _tensor_shape(self, tensor: torch.Tensor, rows: int) -> tuple[Hashable, ...]:
        if not tensor.ndim:
            return ("one value for all rows of a call",)
        if len(tensor) == rows:
            return tuple(tensor.shape[1:])
        if tensor not in self._contents:
            self._contents[tensor] = (tuple(tensor.shape), tuple(tensor.flatten().tolist()))
        content: tuple[Hashable, ...] = self._contents[tensor]
        return content


def run_together(calls: Sequence[Call]) -> list[Any]:
    """Makes calls of one group in one pass; returns what each of them would have got alone."""
    if len(calls) == 1:
        return [calls[0].run()]
    rows = [call.rows() for call in calls]
    args, kwargs = _stack([(call.args, dict(call.kwargs)) for call in calls], rows)
    output = calls[0].module(*args, **kwargs)
    starts = [sum(rows[:position]) for position in range(len(rows))]
    return [_part(output, start, count, sum(rows)) for start, count in zip(starts, rows, strict=True)]


def _stack(values: Sequence[Any], rows: Sequence[int]) -> Any:
    """The arguments of one pass for all: values of the same place in each call, stacked."""
    first = values[0]
    match first:
        case torch.Tensor() if not first.ndim:
            return torch.cat([value.expand(count) for value, count in zip(values, rows, strict=True)])
        case torch.Tensor() if len(first) == rows[0]:
            return torch.cat(list(values))
        case dict():
            return {key: _stack([value[key] for value in values], rows) for key in first}
        case tuple():
            return tuple(_stack(inner, rows) for inner in zip(*values, strict=True))
    return first


def _part(value: Any, start: int, count: int, total: int) -> Any:
    """One call's rows of an outcome."""
    match value:
        case torch.Tensor() if value.ndim and len(value) == total:
            return value[start : start + count]
        case dict():  # the libraries' outputs are dictionaries with attributes, made of keyword arguments
            return type(value)(**{key: _part(inner, start, count, total) for key, inner in value.items()})
        case tuple() | list():
            return type(value)(_part(inner, start, count, total) for inner in value)
    return value


def _tensors(value: Any) -> list[torch.Tensor]:
    match value:
        case torch.Tensor():
            return [value]
        case Mapping():
            return [tensor for inner in value.values() for tensor in _tensors(inner)]
        case tuple() | list():
            return [tensor for inner in value for tensor in _tensors(inner)]
    return []
