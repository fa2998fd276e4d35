from __future__ import annotations

import random

import pytest
from trenza_llama.core.stop import StopMatcher


def shown(stops: tuple[str, ...], pieces: list[str]) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops)
    out = [matcher.feed(piece) for piece in pieces]
    if matcher.matched is None:
        out.append(matcher.finish())
    return out, matcher.matched


@pytest.mark.parametrize(
    ("stops", "pieces", "expected", "matched"),
    [
        pytest.param((), ["a", "b"], ["a", "b", ""], None, id="no stops, nothing held back"),
        pytest.param(("END",), ["abENDcd"], ["ab"], "END", id="inside a piece"),
        pytest.param(("END",), ["abE", "N", "D!"], ["ab", "", ""], "END", id="across pieces"),
        pytest.param(("END",), ["abE", "Nx"], ["ab", "ENx", ""], None, id="held back and released"),
        pytest.param(("END",), ["abEN"], ["ab", "EN"], None, id="held back to the end"),
        pytest.param(("aab",), ["aaab"], ["a"], "aab", id="overlapping start"),
        pytest.param(("aab",), ["aa", "a"], ["", "a", "aa"], None, id="shortest possible suffix is held"),
        pytest.param(("abc", "b"), ["abc"], ["a"], "b", id="first completed wins"),
        pytest.param(("b", "ab"), ["ab"], [""], "ab", id="longest of those completed together"),
        pytest.param(("\n\n",), ["x\n", "\ny"], ["x", ""], "\n\n", id="line breaks"),
    ],
)
def test_stop_sequences(stops: tuple[str, ...], pieces: list[str], expected: list[str], matched: str | None) -> None:
    assert shown(stops, pieces) == (expected, matched)


def test_nothing_follows_a_match() -> None:
    matcher = StopMatcher(("x",))
    assert matcher.feed("axb") == "a"
    assert matcher.feed("more") == ""
    assert matcher.finish() == ""


def test_an_empty_stop_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(("",))


@pytest.mark.parametrize("seed", range(30))
def test_the_result_does_not_depend_on_the_pieces(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices("ab\n", k=40))
    stops = tuple("".join(draw.choices("ab\n", k=draw.randint(2, 6))) for _ in range(3))
    whole, matched = shown(stops, list(text))
    cuts = sorted(draw.sample(range(1, 40), 5))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, 40], strict=True)]
    in_pieces, matched_in_pieces = shown(stops, pieces)
    assert ("".join(in_pieces), matched_in_pieces) == ("".join(whole), matched)
