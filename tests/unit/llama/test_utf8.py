from __future__ import annotations

import pytest
from trenza_llama.core.utf8 import Utf8Assembler


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([b"abc"], ["abc", ""], id="ASCII"),
        pytest.param([b"\xc3", b"\xb1"], ["", "ñ", ""], id="two bytes apart"),
        pytest.param([b"\xf0\x9f", b"\x8c", b"\x8d!"], ["", "", "🌍!", ""], id="four bytes in three pieces"),
        pytest.param([b"a\xe2\x82"], ["a", "�"], id="cut off at the end"),
        pytest.param([b"\xff", b"a"], ["�", "a", ""], id="never valid"),
        pytest.param([b"\xc3", b"a"], ["", "�a", ""], id="broken by what follows"),
        pytest.param([], [""], id="nothing"),
    ],
)
def test_text_from_bytes(pieces: list[bytes], expected: list[str]) -> None:
    assembler = Utf8Assembler()
    assert [*map(assembler.feed, pieces), assembler.finish()] == expected


def test_cutting_every_byte_apart_changes_nothing() -> None:
    text = "niño 🌍 — 数字 ½"
    assembler = Utf8Assembler()
    data = text.encode()
    assert "".join(assembler.feed(data[i : i + 1]) for i in range(len(data))) + assembler.finish() == text
