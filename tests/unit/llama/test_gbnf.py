from __future__ import annotations

import pytest
from trenza_llama.core.gbnf import GbnfError, check


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a"',
        'root ::= x | y # a comment\nx ::= "a"* [^"\\]]+ .?\ny ::= <[7]> !<think> ("b" | "c"){2,3}\n',
        'root ::= (\n "a" |\n "b"\n)\n',
        'root ::= "a" root | "b"',
        'root ::= ("a"?){128} "b"',
        'root ::= (("a"? "b"?){8}){8} "c"',
        "root ::= " + " | ".join(f'"word {number}"' for number in range(5000)),
        "root ::= " + " ".join(f'"word {number}"' for number in range(5000)),
        'root ::= ("a"? "b"){1000}',
        "root ::= [a-z]{0,2000}",
        'root ::= missing "a"',
        "root ::= r0\n" + "\n".join(f"r{number} ::= r{number + 1}" for number in range(3000)) + '\nr3000 ::= "a"',
        "root ::= r0\n"
        + "\n".join(f'r{number} ::= "a" | r{number + 1}' for number in range(3000))
        + '\nr3000 ::= "a"?',
    ],
)
def test_grammars_that_may_be_tried(grammar: str) -> None:
    check(grammar)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "no rules"),
        ("# nothing", "no rules"),
        ('"a"', "not valid"),
        ("root ::= %", "not valid"),
        ('root ::= * "a"', "nothing to repeat"),
        ('root ::= ("a"', "too early"),
        ('root ::= "a")', "not valid"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "nested deeper"),
        ('root ::= "a"' + " " * 300_000, "characters"),
        ('root ::= "a\0"', "NUL"),
        ('root ::= ("a"?){129}', "in a row"),
        ('root ::= ("a"*){1000}', "in a row"),
        ('root ::= (("a"?){12}){12} "b"', "in a row"),
        ('root ::= a{8}\na ::= b{8}\nb ::= c{8}\nc ::= "x"?', "in a row"),
        ('root ::= a a a a a a a a\na ::= b b b b b b b b\nb ::= c c c c\nc ::= "x" |', "in a row"),
        ("root ::= " + '"a"? ' * 200, "in a row"),
        ('root ::= "' + "a" * 10_000 + '"{100}', "expands"),
    ],
)
def test_grammars_that_must_not_be_tried(grammar: str, message: str) -> None:
    with pytest.raises(GbnfError, match=message):
        check(grammar)
