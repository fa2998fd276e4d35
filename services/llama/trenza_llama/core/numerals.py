"""Grammar expressions (GBNF) for the decimal numerals of integers and numbers within bounds."""

from __future__ import annotations

_DIGITS = 15
"""Unbounded integers have at most one more digit than this; more would not survive JSON readers that use doubles."""

_FRACTION = f'("." [0-9]{{1,{_DIGITS}}})?'
_ZERO_FRACTION = f'("." "0"{{1,{_DIGITS}}})?'
_NONZERO_FRACTION = f'"." [0-9]{{0,{_DIGITS - 1}}} [1-9]'


def integers(low: int | None, high: int | None) -> str:
    """An expression for the integers from `low` to `high`, None meaning unbounded. Raises ValueError when there are none."""
    if low is not None and high is not None and low > high:
        raise ValueError(f"there is no integer from {low} to {high}")
    alternatives = []
    if low is None or low < 0:
        alternatives.append(
            '"-" ' + _naturals(max(1, -high) if high is not None else 1, -low if low is not None else None)
        )
    if high is None or high >= 0:
        alternatives.append(_naturals(max(0, low or 0), high))
    return _any_of(alternatives)


def numbers(low: int | None, high: int | None, above: bool = False, below: bool = False) -> str:
    """An expression for the decimal numbers from `low` to `high`; `above` and `below` exclude the bounds themselves.

    Raises ValueError when there are none.
    """
    if low is not None and high is not None and (low > high or (low == high and (above or below))):
        raise ValueError(f"there is no number between {low} and {high}")
    alternatives = []
    if low is None or low < 0:
        nearest = 0 if high is None or high >= 0 else -high
        excluded = below and high is not None and high <= 0
        alternatives.append('"-" ' + _magnitudes(nearest, None if low is None else -low, excluded, above))
    if high is None or high > 0 or (high == 0 and not below):
        nearest = 0 if low is None or low < 0 else low
        excluded = above and low is not None and low >= 0
        alternatives.append(_magnitudes(nearest, high, excluded, below))
    return _any_of(alternatives)


def _magnitudes(low: int, high: int | None, above: bool, below: bool) -> str:
    """Numbers without a sign, from `low` to `high`."""
    if low == high:
        return f'"{low}" {_ZERO_FRACTION}'
    alternatives = [f'"{low}" {_NONZERO_FRACTION if above else _FRACTION}']
    if high is None or low + 1 <= high - 1:
        alternatives.append(f"{_naturals(low + 1, None if high is None else high - 1)} {_FRACTION}")
    if high is not None and not below:
        alternatives.append(f'"{high}" {_ZERO_FRACTION}')
    return _any_of(alternatives)


def _naturals(low: int, high: int | None) -> str:
    """Integers without a sign, from `low` to `high`."""
    if high is None:
        digits = len(str(low))
        alternatives = [_same_length(str(low), "9" * digits)]
        if digits <= _DIGITS:
            alternatives.append(f"[1-9] [0-9]{{{digits},{_DIGITS}}}")
        return _any_of(alternatives)
    alternatives = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        most = min(high, 10**digits - 1)
        alternatives.append(_same_length(str(least), str(most)))
    return _any_of(alternatives)


def _same_length(low: str, high: str) -> str:
    """Digits from `low` to `high`, which have the same number of them."""
    if low == high:
        return f'"{low}"'
    first, last, rest = low[0], high[0], len(low) - 1
    if first == last:
        return f'"{first}" {_same_length(low[1:], high[1:])}'
    if rest == 0:
        return f"[{first}-{last}]"
    alternatives = []
    if low[1:] != "0" * rest:
        alternatives.append(f'"{first}" {_same_length(low[1:], "9" * rest)}')
        first = str(int(first) + 1)
    tail = ""
    if high[1:] != "9" * rest:
        tail = f'"{last}" {_same_length("0" * rest, high[1:])}'
        last = str(int(last) - 1)
    if first <= last:
        alternatives.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    if tail:
        alternatives.append(tail)
    return _any_of(alternatives)


def _any_of(alternatives: list[str]) -> str:
    return alternatives[0] if len(alternatives) == 1 else f"({' | '.join(alternatives)})"
