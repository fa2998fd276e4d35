"""Answers followed through grammars, byte by byte."""

from __future__ import annotations

import json
import random

import pytest
from trenza_llama.core.json_schema import to_gbnf
from trenza_vision.core.grammar import Follower, GrammarError, TooSlow, parse


def follower(grammar: str) -> Follower:
    return Follower(parse(grammar))


def matches(grammar: str, text: str, piece_bytes: int = 1) -> bool:
    """Whether a text, cut into pieces, is an answer."""
    at = follower(grammar)
    data = text.encode()
    for start in range(0, len(data), piece_bytes):
        piece = data[start : start + piece_bytes]
        if not at.allows(piece):
            return False
        at.accept(piece)
    return at.complete


@pytest.mark.parametrize("piece_bytes", [1, 2, 100])
@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= "yes" | "no"', ["yes", "no"], ["", "y", "yess", "maybe"]),
        ("root ::= [a-c]+", ["a", "abcabc"], ["", "d", "abd"]),
        ("root ::= [^a-c]*", ["", "xyz", "é🌍"], ["a", "xb"]),
        ("root ::= [a\\-z]", ["a", "-", "z"], ["b"]),
        ("root ::= [-+]? [0-9]{2,3}", ["12", "-123", "+99"], ["1", "1234", "--1"]),
        ('root ::= "a"{2} | "b"{3,}', ["aa", "bbb", "bbbbb"], ["a", "aaa", "bb"]),
        ('root ::= ("ab" | "a") "c"?', ["ab", "a", "abc", "ac"], ["b", "acc"]),
        ('root ::= item ("," item)*\nitem ::= "x" # an item\n', ["x", "x,x,x"], ["x,", ",x"]),
        ('root ::= "é" | "\\u00f1" | "\\x41"', ["é", "ñ", "A"], ["ó", "e"]),
        ('root ::= "\\"" [^"\\\\]* "\\""', ['"a"', '""', '"🌍"'], ['"', '"a', '"a"b']),
        ("root ::= . .", ["ab", "é🌍"], ["a", "abc"]),
        ('root ::= "(" root ")" | "x"', ["x", "((x))"], ["(x", "x)"]),
        ('root ::= ("a"?)* "b"', ["b", "aaab"], ["a", "ba"]),
        ('root ::= | "a" root', ["", "aaa"], ["b"]),
    ],
)
def test_what_a_grammar_says_is_followed(grammar: str, good: list[str], bad: list[str], piece_bytes: int) -> None:
    assert [text for text in good if not matches(grammar, text, piece_bytes)] == []
    assert [text for text in bad if matches(grammar, text, piece_bytes)] == []


def test_an_end_is_known_and_so_is_half_a_character() -> None:
    at = follower('root ::= "a" "é"?')
    assert not at.complete
    at.accept(b"a")
    assert (at.complete, at.over) == (True, False)
    half, rest = "é".encode()[:1], "é".encode()[1:]
    assert at.allows(half)
    assert not at.allows(b"\xd0"), "no character that begins so is allowed"
    assert not any(at.allows(bytes([byte])) for byte in (0xE0, 0xF0)), "longer forms of short characters are none"
    at.accept(half)
    assert (at.complete, at.over) == (False, False)
    assert not at.allows(b"a"), "no character goes on so"
    at.accept(rest)
    assert (at.complete, at.over) == (True, True)
    assert not at.allows(b"x")
    with pytest.raises(ValueError, match="not allowed"):
        at.accept(b"x")


SCHEMA = {
    "type": "object",
    "properties": {
        "shape": {"enum": ["circle", "square"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 20},
        "colours": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["shape", "count"],
    "additionalProperties": False,
}


def test_any_way_through_a_schemas_grammar_is_an_instance_of_it() -> None:
    letters = [bytes([byte]) for byte in range(32, 127)]
    rules = parse(to_gbnf(json.dumps(SCHEMA)))
    for seed in range(20):
        dice = random.Random(seed)
        at, text = Follower(rules), b""
        while not at.over and len(text) < 400:
            possible = [letter for letter in letters if at.allows(letter)]
            if at.complete and (not possible or dice.random() < 0.5):
                break
            preferred = [letter for letter in possible if letter != b" "]
            text += dice.choice(preferred or possible)
            at.accept(text[-1:])
        assert at.complete, text
        made = json.loads(text)
        assert made["shape"] in ("circle", "square")
        assert 1 <= made["count"] <= 20
        assert all(len(colour) <= 8 for colour in made.get("colours", []))


@pytest.mark.parametrize(
    "grammar",
    ["", 'x ::= "a"', "root ::= y", "root ::= (", 'root ::= "a" )', "root ::= *", "root ::= root", "root ::= [z-a]",
     'root ::= a "x"\na ::= b? root', 'root ::= "unclosed'],
)  # fmt: skip
def test_what_is_no_grammar_is_refused(grammar: str) -> None:
    with pytest.raises(GrammarError):
        follower(grammar)


def test_a_grammar_that_explodes_is_given_up() -> None:
    bomb = "\n".join(
        ['root ::= r0 "!"', *(f"r{n} ::= r{n + 1} r{n + 1} | r{n + 1}" for n in range(18)), 'r18 ::= "a"?']
    )
    with pytest.raises(TooSlow):
        matches(bomb, "a" * 40)


def test_deep_nesting_and_long_answers_stay_cheap() -> None:
    at = follower('root ::= value\nvalue ::= "[" (value ("," value)*)? "]"')
    for _ in range(5000):
        at.accept(b"[")
    for _ in range(5000):
        at.accept(b"]")
    assert at.over
    assert len(at._cells) < 50_000
