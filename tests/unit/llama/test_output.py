from __future__ import annotations

from trenza_llama.core.output import OutputText


def test_notes_travel_with_their_text() -> None:
    output: OutputText[str] = OutputText(("STOP",))
    assert output.feed(b"go", "1") == ("go", ("1",))
    assert output.feed(b"S", "2") == ("", ())
    assert output.feed(b"T", "3") == ("", ())
    assert output.feed(b"!", "4") == ("ST!", ("2", "3", "4"))
    assert output.finish() == ("", ())


def test_notes_of_the_stop_sequence_are_dropped() -> None:
    output: OutputText[str] = OutputText(("STOP",))
    output.feed(b"a", "1")
    assert output.feed(b"bST", "2") == ("b", ("2",))
    assert output.feed(b"OP", "3") == ("", ())
    assert output.matched == "STOP"
    assert output.finish() == ("", ())


def test_notes_of_incomplete_characters_come_with_the_character() -> None:
    output: OutputText[str] = OutputText(())
    assert output.feed(b"\xc3", "1") == ("", ())
    assert output.feed(b"\xb1", "2") == ("ñ", ("1", "2"))


def test_the_end_releases_everything() -> None:
    output: OutputText[str] = OutputText(("abc",))
    assert output.feed(b"xab", "1") == ("x", ("1",))
    assert output.feed(b"\xc3", "2") == ("", ())
    assert output.finish() == ("ab�", ("2",))


def test_tokens_without_text_keep_their_note() -> None:
    output: OutputText[str] = OutputText(())
    assert output.feed(b"a", "1") == ("a", ("1",))
    assert output.feed(b"", "2") == ("", ())
    assert output.finish() == ("", ("2",))
