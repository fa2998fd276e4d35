"""Judges grammars (GBNF) before llama.cpp sees them: it follows some so slowly, or expands them so far, as to stand still."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MAX_CHARS = 256 * 1024
_MAX_DEPTH = 128
"""llama.cpp parses and follows grammars recursively; deeper nesting could overrun its stack."""

_MAX_SKIPPED = 128
"""How many things in a row may be left out. The cost of every token grows with the third power of it."""

_MAX_ELEMENTS = 200_000

_TOKEN = re.compile(
    r"""\s+ | \#[^\r\n]*
    | (?P<rule>[A-Za-z0-9-]+)(?=\s*::=) | (?P<assign>::=)
    | (?P<name>[A-Za-z0-9-]+)
    | (?P<literal>"(?:[^"\\]|\\.)*") | (?P<one>\[(?:[^\]\\]|\\.)*\]|\.|!?<[^<>]*>)
    | (?P<repeat>[*+?]|\{\s*\d+\s*(?:,\s*\d*\s*)?\})
    | (?P<mark>[|()])""",
    re.VERBOSE | re.DOTALL,
)


class GbnfError(ValueError):
    """The grammar must not be used; the message says why."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A part of a sequence: how many elements it expands to, and what it is: a group, a rule's name, or a terminal."""

    elements: int
    group: _Alternatives | None = None
    rule: str | None = None
    least: int = 1
    copies: int = 1


_Alternatives = tuple[tuple[_Item, ...], ...]


def check(text: str) -> None:
    """Raises GbnfError for a grammar that is empty, too large, or has too much in a row that may be left out.

    Errors of its notation that do not matter here are left to llama.cpp to find.
    """
    if len(text) > _MAX_CHARS:
        raise GbnfError(f"the grammar has more than {_MAX_CHARS} characters")
    if "\0" in text:
        raise GbnfError("the grammar contains a NUL character")
    rules = _Parser(text).rules()
    if not rules:
        raise GbnfError("the grammar has no rules")
    elements = sum(item.elements for alternatives in rules.values() for item in _all_items(alternatives))
    if elements > _MAX_ELEMENTS:
        raise GbnfError(f"the grammar expands to more than {_MAX_ELEMENTS} elements")
    _Skipping(rules).check()


class _Parser:
    """Reads the rules of a grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = self._split(text)
        self._next = 0

    def rules(self) -> Mapping[str, _Alternatives]:
        rules: dict[str, _Alternatives] = {}
        while self._next < len(self._tokens):
            kind, name = self._take()
            if kind != "rule" or self._take()[0] != "assign":
                raise GbnfError(f"the grammar is not valid near {name[:20]!r}")
            rules[name] = self._alternatives(0)
        return rules

    def _split(self, text: str) -> Sequence[tuple[str, str]]:
        tokens = []
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise GbnfError(f"the grammar is not valid near {text[position : position + 20]!r}")
            if found.lastgroup is not None:
                tokens.append((found.lastgroup, found.group(found.lastgroup)))
            position = found.end()
        return tokens

    def _take(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise GbnfError("the grammar ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("rule", "")

    def _alternatives(self, depth: int) -> _Alternatives:
        if depth > _MAX_DEPTH:
            raise GbnfError(f"the grammar is nested deeper than {_MAX_DEPTH} levels")
        sequences = [self._sequence(depth)]
        while self._peek() == ("mark", "|"):
            self._take()
            sequences.append(self._sequence(depth))
        return tuple(sequences)

    def _sequence(self, depth: int) -> tuple[_Item, ...]:
        items: list[_Item] = []
        while self._peek()[0] != "rule" and self._peek() not in (("mark", "|"), ("mark", ")")):
            kind, text = self._take()
            if kind == "repeat":
                if not items:
                    raise GbnfError(f"the grammar is not valid near {text!r}: there is nothing to repeat")
                items[-1] = _repeated(items[-1], text)
            elif kind == "mark":
                group = self._alternatives(depth + 1)
                if self._take() != ("mark", ")"):
                    raise GbnfError("the grammar has a group that is not closed")
                items.append(_Item(1, group=group))
            else:
                items.append(_Item(len(text), rule=text if kind == "name" else None, least=int(text != '""')))
        return tuple(items)


def _repeated(item: _Item, text: str) -> _Item:
    counts = {"*": "0,", "+": "1,", "?": "0,1"}.get(text, text.strip("{}"))
    low, comma, high = (part.strip() for part in counts.partition(","))
    least = int(low)
    most = int(high) if high else max(least, 1) if comma else least
    return _Item(item.elements * max(most, 1), item.group, item.rule, item.least * least, item.copies * max(most, 1))


def _all_items(alternatives: _Alternatives) -> list[_Item]:
    found: list[_Item] = []
    for sequence in alternatives:
        for item in sequence:
            found.append(item)
            if item.group is not None:
                found += _all_items(item.group)
    return found


class _Skipping:
    """Finds how many things in a row can be left out anywhere in a grammar."""

    def __init__(self, rules: Mapping[str, _Alternatives]) -> None:
        self._rules = rules
        self._empty = self._rules_that_can_be_empty()
        self._runs: dict[str, int] = {}

    def check(self) -> None:
        """Raises GbnfError where it is too much."""
        for name in self._used_before_users():
            self._runs[name] = self._of_alternatives(self._rules[name])

    def _rules_that_can_be_empty(self) -> set[str]:
        users: dict[str, list[str]] = defaultdict(list)
        for name, rule in self._rules.items():
            for used in _rules_used(rule):
                users[used].append(name)
        empty: set[str] = set()
        to_try = list(self._rules)
        while to_try:
            name = to_try.pop()
            if name not in empty and _can_be_empty(self._rules[name], empty):
                empty.add(name)
                to_try += users[name]
        return empty

    def _used_before_users(self) -> Sequence[str]:
        """All rules, those that can be empty before the rules that use them (where they do not use one another)."""
        order: list[str] = []
        seen: set[str] = set()
        for root in self._rules:
            waiting = [(root, False)]
            while waiting:
                name, is_user = waiting.pop()
                if is_user:
                    order.append(name)
                elif name not in seen:
                    seen.add(name)
                    used = _rules_used(self._rules[name]) & self._empty
                    waiting += [(name, True), *((rule, False) for rule in used)]
        return order

    def _of_alternatives(self, alternatives: _Alternatives) -> int:
        """How many things in a row one use of it leaves out when it is empty."""
        return max(1, sum(self._of_sequence(sequence) for sequence in alternatives))

    def _of_sequence(self, sequence: Sequence[_Item]) -> int:
        """The longest run of skippable things, or 0 if the sequence as a whole cannot be left out."""
        run = longest = 0
        for item in sequence:
            inner = self._of_alternatives(item.group) if item.group is not None else self._runs.get(item.rule or "", 1)
            copies = item.copies if _inside_can_be_empty(item, self._empty) else 1
            run = run + copies * inner if _skippable(item, self._empty) else 0
            longest = max(longest, run)
            if longest > _MAX_SKIPPED:
                raise GbnfError(f"the grammar lets more than {_MAX_SKIPPED} things in a row be left out")
        return longest if all(_skippable(item, self._empty) for item in sequence) else 0


def _rules_used(alternatives: _Alternatives) -> set[str]:
    return {item.rule for item in _all_items(alternatives) if item.rule is not None}


def _can_be_empty(alternatives: _Alternatives, empty: set[str]) -> bool:
    return any(all(_skippable(item, empty) for item in sequence) for sequence in alternatives)


def _skippable(item: _Item, empty: set[str]) -> bool:
    return item.least == 0 or _inside_can_be_empty(item, empty)


def _inside_can_be_empty(item: _Item, empty: set[str]) -> bool:
    return _can_be_empty(item.group, empty) if item.group is not None else item.rule in empty
