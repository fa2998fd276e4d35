"""How a text is cut: at sentences, where they are too long at clauses, else between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trenza_audio.speaking.core.pieces import limit_for, split
from trenza_audio.speaking.core.wording import clean, speakable

SENTENCES = {
    "Hello there. How are you? I'm fine!": ["Hello there.", "How are you?", "I'm fine!"],
    "Hola. ¿Qué tal? ¡Bien! Hoy es lunes.": ["Hola.", "¿Qué tal?", "¡Bien!", "Hoy es lunes."],
    "Dr. Smith met Mrs. Jones. They left.": ["Dr. Smith met Mrs. Jones.", "They left."],
    "El Sr. López y la Sra. Díaz viven aquí. Bien.": ["El Sr. López y la Sra. Díaz viven aquí.", "Bien."],
    "It costs 3.5 dollars. Or 1,000.25 euros.": ["It costs 3.5 dollars.", "Or 1,000.25 euros."],
    "See example.org. It is v1.2.3.": ["See example.org.", "It is v1.2.3."],
    "J. R. R. Tolkien wrote it. So am I. Then go.": ["J. R. R. Tolkien wrote it.", "So am I.", "Then go."],
    "He came at 5 p.m. and left. She stayed.": ["He came at 5 p.m. and left.", "She stayed."],
    "No. Yes. No. 5 is alive.": ["No.", "Yes.", "No. 5 is alive."],
    "Wait... what? “Really?” she said. (Yes.) Done": ["Wait... what?", "“Really?” she said.", "(Yes.)", "Done"],
    "What?! No!!! Yes…": ["What?!", "No!!!", "Yes…"],
    "你好。今天天气很好！是吗？": ["你好。", "今天天气很好！", "是吗？"],
    "आज सोमवार है। कल मंगलवार है।": ["आज सोमवार है।", "कल मंगलवार है।"],
    "A heading\n\nA paragraph that is\nbroken into lines. End": [
        "A heading",
        "A paragraph that is broken into lines.",
        "End",
    ],
    "First item\nSecond item\nthird goes on": ["First item", "Second item third goes on"],
    "no marks at all": ["no marks at all"],
    "... One.": ["... One."],
    "One. ... !!!": ["One."],
    "😀": ["😀"],
    "<speak>Hi.</speak>": ["<speak>Hi.</speak>"],
    "": [],
    " \n . , ; ": [],
}


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences(text: str) -> None:
    assert list(split(text, 300)) == SENTENCES[text]


def test_long_sentences_are_cut_at_clauses_and_else_between_words() -> None:
    text = (
        "First, a long clause that goes on; second, another clause that goes on: third, the last one, which ends here."
    )
    assert split(text, 60) == (
        "First, a long clause that goes on; second,",
        "another clause that goes on: third, the last one,",
        "which ends here.",
    )
    assert split("word " * 30, 24) == ("word word word word word",) * 6
    assert split("a" * 25, 10) == ("a" * 10, "a" * 10, "a" * 5)
    assert split("今天天气很好，我们去公园，然后吃饭", 8) == ("今天天气很好，", "我们去公园，", "然后吃饭")


def test_short_sentences_go_together_where_an_engine_wants_it() -> None:
    assert split("Yes. No. Perhaps we will see tomorrow. Ok.", 100, 12) == (
        "Yes. No. Perhaps we will see tomorrow.",
        "Ok.",
    )
    assert split("Yes. No. Perhaps we will.", 12, 12) == ("Yes. No.", "Perhaps we", "will.")


def test_languages_without_spaces_have_shorter_pieces() -> None:
    assert limit_for("zh", 180) == 60
    assert limit_for("es", 180) == 180


@given(st.text(st.sampled_from("ab. ?!,;\n。一1'😀"), max_size=200), st.integers(1, 40), st.integers(1, 20))
def test_nothing_spoken_is_lost_and_no_piece_is_too_long(text: str, limit: int, least: int) -> None:
    pieces = split(text, limit, least)
    assert all(0 < len(piece) <= limit and speakable(piece) for piece in pieces)
    assert [c for piece in pieces for c in piece if speakable(c)] == [c for c in text if speakable(c)]


@pytest.mark.parametrize(("limit", "least"), [(0, 1), (1, 0), (-5, 1)])
def test_limits_below_one_are_refused(limit: int, least: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split("text", limit, least)


def test_cleaning() -> None:
    assert clean("a\x00b\x1b[31mc\u200b\ufeff\ue000\ud800 \tde\u0301\r\nf\x7f") == "a b [31mc  dé\n\nf"
    assert clean("می\u200cخواهم") == "می\u200cخواهم"
    assert not speakable(clean("\x01\x02 .,-!?"))
    assert all(map(speakable, "1😀€字é"))
