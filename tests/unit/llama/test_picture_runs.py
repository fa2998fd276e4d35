from __future__ import annotations

import pytest
from trenza_llama.core.pictures import PictureRun, position_of, run_at, stand_ins, text_until, whole_pictures

KEY = "ab" * 32


def run(start: int, count: int, positions: int, part: int = 0) -> PictureRun:
    return PictureRun(start, count, positions, False, KEY, part)


RUNS = [run(2, 6, 3), run(10, 4, 4, part=1)]
"""Two tokens of text, a picture that takes fewer positions than tokens, two of text, a picture, and text."""


def test_stand_ins_differ_from_tokens_and_from_one_another() -> None:
    keys = ["0" * 64, "0" * 63 + "1", "f" * 64, KEY]
    all_of_them = [number for key in keys for part in range(3) for number in stand_ins(key, part, 50)]
    assert max(all_of_them) < 0
    assert len(set(all_of_them)) == len(all_of_them) == 4 * 3 * 50
    assert stand_ins(KEY, 2, 50) == all_of_them[-50:]


@pytest.mark.parametrize(
    ("index", "position"),
    [(0, 0), (1, 1), (2, 2), (5, 2), (7, 2), (8, 5), (9, 6), (10, 7), (13, 7), (14, 11), (20, 17)],
)
def test_positions(index: int, position: int) -> None:
    assert position_of(index, RUNS) == position
    assert position_of(index, []) == index


@pytest.mark.parametrize(("index", "found"), [(0, None), (2, 0), (7, 0), (8, None), (10, 1), (13, 1), (14, None)])
def test_which_run_a_token_belongs_to(index: int, found: int | None) -> None:
    assert run_at(index, RUNS) == (None if found is None else RUNS[found])


@pytest.mark.parametrize(("index", "end"), [(0, 2), (8, 10), (9, 10), (14, 99)])
def test_text_ends_where_a_picture_begins(index: int, end: int) -> None:
    assert text_until(index, RUNS, 99) == end


@pytest.mark.parametrize(("length", "whole"), [(0, 0), (2, 2), (3, 2), (7, 2), (8, 8), (12, 10), (14, 14), (30, 30)])
def test_no_cut_is_within_a_picture(length: int, whole: int) -> None:
    assert whole_pictures(length, RUNS) == whole
