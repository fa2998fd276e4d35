"""Follows an answer through a grammar in llama.cpp's notation (GBNF), for engines that have no such thing of their own.

A state is a set of stacks of what may still come. Stacks share their lower cells, and equal stacks are one and the same, so that
an ambiguous grammar does not multiply them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

_MOST_STEPS = 20_000
"""How often a single character may open up what may come next; sensible grammars need some dozens."""
_FEW_CELLS = 4096
_ROOT = "root"
_LAST_CODE = 0x10FFFF
_LEAST_CODE = {2: 0x80, 3: 0x800, 4: 0x10000}
"""The first code point that takes so many bytes."""
_TOKEN = re.compile(
    r"""\s+ | \#[^\r\n]*
    | (?P<rule>[A-Za-z0-9-]+)(?=\s*::=) | (?P<assign>::=)
    | (?P<name>[A-Za-z0-9-]+)
    | (?P<literal>"(?:[^"\\]|\\.)*") | (?P<chars>\[(?:[^\]\\]|\\.)*\]) | (?P<any>\.)
    | (?P<repeat>[*+?]|\{\s*\d+\s*(?:,\s*\d*\s*)?\})
    | (?P<mark>[|()])""",
    re.VERBOSE | re.DOTALL,
)
_CHARACTER = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})|\\(.)|(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class GrammarError(ValueError):
    """The grammar cannot be used; the message says why."""


class TooSlow(Exception):
    """The grammar takes too much to follow."""


@dataclass(frozen=True, eq=False)
class Chars:
    """One character: of these ranges of code points, or of none of them."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False

    def meets(self, low: int, high: int) -> bool:
        """Whether a character between `low` and `high`, both included, can be the one."""
        if self.negated:
            return not any(first <= low and high <= last for first, last in self.ranges)
        return any(first <= high and low <= last for first, last in self.ranges)


@dataclass(frozen=True, eq=False)
class Rule:
    """What the rule of that name stands for."""

    name: str


@dataclass(frozen=True, eq=False)
class Group:
    """One of several sequences."""

    sequences: tuple[tuple[Element, ...], ...]


@dataclass(frozen=True, eq=False)
class Repeat:
    """Something so many times in a row; `most` None is any number."""

    element: Element
    least: int
    most: int | None


Element: TypeAlias = Chars | Rule | Group | Repeat


def parse(text: str) -> Mapping[str, Group]:
    """The rules of a grammar by name. Raises GrammarError."""
    rules = _Parser(text).rules()
    if _ROOT not in rules:
        raise GrammarError("the grammar has no rule named root")
    unknown = sorted({name for rule in rules.values() for name in _names(rule)} - set(rules))
    if unknown:
        raise GrammarError(f"the grammar has no rule named {unknown[0]}")
    return rules


class Follower:
    """An answer's way through a grammar.

    Raises GrammarError for rules that begin with themselves, and TooSlow, also from its methods.
    """

    def __init__(self, rules: Mapping[str, Group]) -> None:
        self._rules = rules
        self._cells: dict[tuple[int, int], _Cell] = {}
        self._repeats: dict[tuple[int, int, int | None], Repeat] = {}
        self._most_cells = _FEW_CELLS
        self._refuse_left_recursion()
        self._pending = b""
        self._stacks = self._opened([self._cell(Rule(_ROOT), None)])

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return None in self._stacks and not self._pending

    @property
    def over(self) -> bool:
        """Whether the answer has to end here."""
        return not self._pending and all(stack is None for stack in self._stacks)

    def allows(self, piece: bytes) -> bool:
        """Whether the answer may go on with these bytes, which may end inside a character."""
        return self._after(piece) is not None

    def accept(self, piece: bytes) -> None:
        """Goes on with bytes that are allowed."""
        after = self._after(piece)
        if after is None:
            raise ValueError("these bytes are not allowed here")
        self._stacks, self._pending = after
        if len(self._cells) > self._most_cells:
            self._forget_dead_cells()

    def _after(self, piece: bytes) -> tuple[frozenset[_Stack], bytes] | None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(self._pending + piece)
        except UnicodeDecodeError:
            return None
        pending = decoder.getstate()[0]
        stacks = self._stacks
        for character in text:
            stacks = self._advanced(stacks, ord(character))
            if not stacks:
                return None
        if pending and not any(stack is not None and _top(stack).meets(*_span(pending)) for stack in stacks):
            return None
        return stacks, pending

    def _advanced(self, stacks: Iterable[_Stack], code: int) -> frozenset[_Stack]:
        return self._opened([stack.below for stack in stacks if stack is not None and _top(stack).meets(code, code)])

    def _opened(self, todo: list[_Stack]) -> frozenset[_Stack]:
        """The same stacks with a character, or nothing, on top of each."""
        seen: set[_Stack] = set()
        ready: set[_Stack] = set()
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if len(seen) > _MOST_STEPS:
                raise TooSlow
            if stack is None or isinstance(stack.element, Chars):
                ready.add(stack)
            else:
                todo += self._unfolded(stack.element, stack.below)
        return frozenset(ready)

    def _unfolded(self, element: Rule | Group | Repeat, below: _Stack) -> list[_Stack]:
        match element:
            case Rule(name):
                return [self._cell(self._rules[name], below)]
            case Group(sequences):
                return [self._pushed(sequence, below) for sequence in sequences]
            case Repeat(inner, least, most):
                if most == 0:
                    return [below]
                rest = self._repeat(inner, max(least - 1, 0), None if most is None else most - 1)
                once = self._cell(inner, self._cell(rest, below))
                return [once] if least else [once, below]

    def _pushed(self, sequence: Sequence[Element], below: _Stack) -> _Stack:
        for element in reversed(sequence):
            below = self._cell(element, below)
        return below

    def _cell(self, element: Element, below: _Stack) -> _Cell:
        """The one cell with these contents."""
        return self._cells.setdefault((id(element), id(below)), _Cell(element, below))

    def _repeat(self, element: Element, least: int, most: int | None) -> Repeat:
        return self._repeats.setdefault((id(element), least, most), Repeat(element, least, most))

    def _forget_dead_cells(self) -> None:
        """Drops what only earlier states and tried answers needed; seldom, as every living cell is visited."""
        self._cells = {}
        for stack in self._stacks:
            cell = stack
            while cell is not None and (id(cell.element), id(cell.below)) not in self._cells:
                self._cells[id(cell.element), id(cell.below)] = cell
                cell = cell.below
        self._most_cells = max(_FEW_CELLS, 2 * len(self._cells))

    def _refuse_left_recursion(self) -> None:
        empty = _rules_that_may_be_empty(self._rules)
        first = {name: _first_rules(rule, empty) for name, rule in self._rules.items()}
        for name, begins in first.items():
            reached: set[str] = set()
            todo = list(begins)
            while todo:
                other = todo.pop()
                if other not in reached:
                    reached.add(other)
                    todo += first[other]
            if name in reached:
                raise GrammarError(f"the rule {name} begins with itself")


@dataclass(eq=False)
class _Cell:
    """The top of a stack: what comes next, and what after that."""

    element: Element
    below: _Stack = field(repr=False)


_Stack: TypeAlias = _Cell | None


def _top(stack: _Cell) -> Chars:
    assert isinstance(stack.element, Chars)
    return stack.element


def _span(pending: bytes) -> tuple[int, int]:
    """The first and the last code point that begin with these bytes of UTF-8."""
    length = 2 if pending[0] < 0xE0 else 3 if pending[0] < 0xF0 else 4
    low = high = pending[0] & (0x7F >> length)
    for position in range(1, length):
        known = pending[position] & 0x3F if position < len(pending) else None
        low = low << 6 | (0 if known is None else known)
        high = high << 6 | (0x3F if known is None else known)
    return max(low, _LEAST_CODE[length]), min(high, _LAST_CODE)


class _Parser:
    """Reads the rules of a grammar; how large and how deep it may be is judged before."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_split(text))
        self._next = 0

    def rules(self) -> Mapping[str, Group]:
        rules: dict[str, Group] = {}
        while self._next < len(self._tokens):
            kind, name = self._take()
            if kind != "rule" or self._take()[0] != "assign":
                raise GrammarError(f"the grammar is not valid near {name[:20]!r}")
            rules[name] = self._group()
        return rules

    def _take(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise GrammarError("the grammar ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("rule", "")

    def _group(self) -> Group:
        sequences = [self._sequence()]
        while self._peek() == ("mark", "|"):
            self._take()
            sequences.append(self._sequence())
        return Group(tuple(sequences))

    def _sequence(self) -> tuple[Element, ...]:
        elements: list[Element] = []
        while self._peek()[0] != "rule" and self._peek() not in (("mark", "|"), ("mark", ")")):
            kind, text = self._take()
            if kind != "repeat":
                elements.append(self._element(kind, text))
            elif elements:
                elements[-1] = _repeated(elements[-1], text)
            else:
                raise GrammarError(f"the grammar is not valid near {text!r}: there is nothing to repeat")
        return tuple(elements)

    def _element(self, kind: str, text: str) -> Element:
        match kind:
            case "name":
                return Rule(text)
            case "literal":
                codes = [code for code, _ in _characters(text[1:-1])]
                return Group((tuple(Chars(((code, code),)) for code in codes),))
            case "chars":
                return _char_class(text[1:-1])
            case "any":
                return Chars((), negated=True)
            case "mark" if text == "(":
                group = self._group()
                if self._take() != ("mark", ")"):
                    raise GrammarError("the grammar has a group that is not closed")
                return group
            case _:
                raise GrammarError(f"the grammar is not valid near {text[:20]!r}")


def _split(text: str) -> Iterable[tuple[str, str]]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise GrammarError(f"the grammar is not valid near {text[position : position + 20]!r}")
        if found.lastgroup is not None:
            yield found.lastgroup, found.group(found.lastgroup)
        position = found.end()


def _characters(text: str) -> list[tuple[int, bool]]:
    """The code points of a literal, and whether each was written with a backslash."""
    found = []
    for match in _CHARACTER.finditer(text):
        number = match[1] or match[2] or match[3]
        code = int(number, 16) if number else ord(_ESCAPES.get(match[4], match[4]) if match[4] else match[5])
        found.append((code, match[5] is None))
    return found


def _char_class(text: str) -> Chars:
    negated = text.startswith("^")
    characters = _characters(text[1:] if negated else text)
    ranges = []
    at = 0
    while at < len(characters):
        first = last = characters[at][0]
        if at + 2 < len(characters) and characters[at + 1] == (ord("-"), False):
            last = characters[at + 2][0]
            at += 2
        if last < first:
            raise GrammarError(f"the grammar has a range that runs backwards: [{text[:20]}]")
        ranges.append((first, last))
        at += 1
    return Chars(tuple(ranges), negated)


def _repeated(element: Element, text: str) -> Repeat:
    counts = {"*": "0,", "+": "1,", "?": "0,1"}.get(text, text.strip("{}"))
    low, comma, high = (part.strip() for part in counts.partition(","))
    most = int(high) if high else None if comma else int(low)
    return Repeat(element, int(low), most)


def _names(element: Element) -> set[str]:
    match element:
        case Rule(name):
            return {name}
        case Group(sequences):
            return {name for sequence in sequences for inner in sequence for name in _names(inner)}
        case Repeat(inner, _, _):
            return _names(inner)
        case _:
            return set()


def _rules_that_may_be_empty(rules: Mapping[str, Group]) -> frozenset[str]:
    empty: frozenset[str] = frozenset()
    while True:
        found = frozenset(name for name, rule in rules.items() if _may_be_empty(rule, empty))
        if found == empty:
            return empty
        empty = found


def _may_be_empty(element: Element, empty: frozenset[str]) -> bool:
    match element:
        case Chars():
            return False
        case Rule(name):
            return name in empty
        case Group(sequences):
            return any(all(_may_be_empty(inner, empty) for inner in sequence) for sequence in sequences)
        case Repeat(inner, least, _):
            return least == 0 or _may_be_empty(inner, empty)


def _first_rules(element: Element, empty: frozenset[str]) -> set[str]:
    """The rules that may stand at the very beginning of something."""
    match element:
        case Rule(name):
            return {name}
        case Repeat(inner, _, _):
            return _first_rules(inner, empty)
        case Group(sequences):
            found: set[str] = set()
            for sequence in sequences:
                for inner in sequence:
                    found |= _first_rules(inner, empty)
                    if not _may_be_empty(inner, empty):
                        break
            return found
        case _:
            return set()
