"""Languages and subtitles, which need no gateway."""

from __future__ import annotations

import pytest
from trenza.audio.v1 import audio_pb2
from trenza_gateway.openai.audio_languages import NAMES, code_of, name_of
from trenza_gateway.openai.audio_subtitles import srt, vtt


def segment(text: str, start_s: float, end_s: float) -> audio_pb2.TranscriptSegment:
    return audio_pb2.TranscriptSegment(text=text, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("en", "en"),
        ("ES", "es"),
        (" es ", "es"),
        ("Spanish", "es"),
        ("haitian creole", "ht"),
        ("yue", "yue"),
        ("xx", "xx"),
    ],
)
def test_codes(said: str, code: str) -> None:
    assert code_of(said) == code


@pytest.mark.parametrize("said", ["", "e", "en-GB", "klingon", "12", "ñn"])
def test_what_is_no_language(said: str) -> None:
    with pytest.raises(ValueError, match="ISO 639-1"):
        code_of(said)


def test_names() -> None:
    assert (name_of("en"), name_of("es"), name_of("ht"), name_of("xx")) == (
        "english",
        "spanish",
        "haitian creole",
        "xx",
    )
    assert len(NAMES) == len(set(NAMES.values())) == 100
    assert all(code_of(name_of(code)) == code for code in NAMES)


@pytest.mark.parametrize(
    ("start_s", "end_s", "span"),
    [
        (0.0, 0.0004, "00:00:00,000 --> 00:00:00,000"),
        (59.9996, 61.5, "00:01:00,000 --> 00:01:01,500"),
        (3599.9996, 360_000.001, "01:00:00,000 --> 100:00:00,001"),
        (-1.0, 1.0, "00:00:00,000 --> 00:00:01,000"),
        (2.0, 1.0, "00:00:02,000 --> 00:00:02,000"),
    ],
)
def test_times(start_s: float, end_s: float, span: str) -> None:
    assert srt([segment("x", start_s, end_s)]) == f"1\n{span}\nx\n"


def test_a_text_cannot_end_its_cue_or_begin_another() -> None:
    text = " one\n\n2\n00:00:00,000 --> 00:00:01,000\r\n<b>two"
    assert srt([segment(text, 0, 1)]).count("\n") == 3
    assert srt([segment(text, 0, 1)]).count("-->") == 1
    assert vtt([segment(text, 0, 1)]).endswith("\none 2 00:00:00,000 --&gt; 00:00:01,000 &lt;b&gt;two\n")


def test_nothing() -> None:
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n"
