"""Names of strangers' files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trenza_fetch.core.names import NameRefused, chosen, folder_of, require_safe


@pytest.mark.parametrize(
    "name", ["a", "a.gguf", "weights/a-00001-of-00002.gguf", "ünïcode/ñ.txt", "a b.bin", "..a", "a.."]
)
def test_a_file_below_the_folder_is_taken(name: str) -> None:
    assert require_safe(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "../a", "a/../../b", "a/..", "./a", "a//b", "a/", "a\\b", "..\\b", "a\0b", "a\nb"),
        *("a\x1b[2J", "\u202egpj.exe", "a" * 300, "/".join("a" * 300), "ñ" * 200),
    ],
)
def test_what_would_lie_elsewhere_or_deceive_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        require_safe(name)


@given(st.text(max_size=40))
def test_no_name_that_is_taken_leads_out(name: str) -> None:
    try:
        require_safe(name)
    except NameRefused:
        return
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))


NAMES = ["model.toml", "a.gguf", "b.gguf", "onnx/a.onnx", "onnx/deep/b.onnx", ".gitattributes", ".cache/x", "onnx/.x"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], ["a.gguf", "b.gguf", "model.toml", "onnx/a.onnx", "onnx/deep/b.onnx"]),
        (["*.gguf"], ["a.gguf", "b.gguf"]),
        (["a.gguf", "model.toml"], ["a.gguf", "model.toml"]),
        (["onnx/"], ["onnx/a.onnx", "onnx/deep/b.onnx"]),
        (["*.onnx"], ["onnx/a.onnx", "onnx/deep/b.onnx"]),
        (["[ab].gguf", "a*"], ["a.gguf", "b.gguf"]),
    ],
)
def test_patterns_choose(patterns: list[str], found: list[str]) -> None:
    assert list(chosen(NAMES, patterns, {})) == found


def test_a_name_that_looks_like_a_pattern_is_a_name() -> None:
    assert list(chosen(["a[1].bin", "a1.bin"], ["a[1].bin"], {})) == ["a[1].bin"]


@pytest.mark.parametrize(
    ("names", "patterns", "sums", "complaint"),
    [
        (NAMES, ["*.safetensors"], {}, "no file that matches '*.safetensors'"),
        (NAMES, ["A.gguf"], {}, "no file that matches 'A.gguf'"),
        (NAMES, ["*.gguf"], {"model.toml": "0"}, "a checksum is given for 'model.toml'"),
        ([".gitattributes"], [], {}, "the source has no files"),
        (["a", "a/b"], [], {}, "'a' is both a file and a folder"),
        (["good", "../bad"], ["good"], {}, "'../bad'"),
        ([f"{number}" for number in range(10_001)], [], {}, "10001 files"),
    ],
)
def test_what_makes_no_sense_is_refused(
    names: list[str], patterns: list[str], sums: dict[str, str], complaint: str
) -> None:
    with pytest.raises(NameRefused) as refused:
        chosen(names, patterns, sums)
    assert complaint in str(refused.value)


def test_sums_go_with_their_files() -> None:
    assert chosen(NAMES, ["*.gguf"], {"b.gguf": "abc"}) == {"a.gguf": "", "b.gguf": "abc"}


def test_a_models_name_becomes_one_folder() -> None:
    assert folder_of("org/model:7b@q4") == "org--model--7b--q4"
