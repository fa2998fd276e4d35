"""Turns the regular expressions of JSON schemas into grammar expressions (GBNF) for the inside of a JSON string."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_CHARS = 1000
_MAX_DEPTH = 50
_MAX_REPEAT = 1000

_Ranges = tuple[tuple[int, int], ...]

_CLASSES: dict[str, _Ranges] = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": ((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0)),
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_JSON_ESCAPES = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 0x22: '"', 0x5C: "\\"}
_LAST = 0x10FFFF


class PatternError(ValueError):
    """The pattern uses something that cannot be expressed; the message says what."""


def inside_of_string(pattern: str, any_char: str, dot: str) -> str:
    """An expression for what may stand between the quotes.

    `any_char` is the rule for one character of a JSON string, `dot` the one for what a dot in the pattern means. As in
    JSON schema the pattern may match anywhere unless it is anchored. Raises PatternError.
    """
    if len(pattern) > _MAX_CHARS:
        raise PatternError(f"the pattern has more than {_MAX_CHARS} characters")
    body, before, after = pattern, f"{any_char}* ", f" {any_char}*"
    if body.startswith("^"):
        body, before = body[1:], ""
    if body.endswith("$") and not _escaped(body):
        body, after = body[:-1], ""
    reader = _Reader(body, dot)
    expression = reader.alternatives(0)
    if reader.rest:
        raise PatternError(f"unexpected {reader.rest[:10]!r}")
    return f"{before}{expression}{after}"


def _escaped(text: str) -> bool:
    """Whether the last character is escaped by an odd number of backslashes before it."""
    before = text[:-1]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


@dataclass
class _Reader:
    """Reads a pattern from left to right."""

    rest: str
    dot: str

    def alternatives(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise PatternError(f"groups are nested deeper than {_MAX_DEPTH} levels")
        sequences = [self._sequence(depth)]
        while self._taken("|"):
            sequences.append(self._sequence(depth))
        return f"({' | '.join(sequences)})"

    def _sequence(self, depth: int) -> str:
        items = []
        while self.rest and self.rest[0] not in "|)":
            items.append(self._item(depth) + self._repetition())
        return " ".join(items) if items else '""'

    def _item(self, depth: int) -> str:
        char = self._next()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return _one_of(*self._class())
        if char == ".":
            return self.dot
        if char == "\\":
            escaped = self._escape()
            return _one_of(*escaped) if isinstance(escaped, tuple) else _one_of(((ord(escaped), ord(escaped)),), False)
        if char in "^$*+?{}":
            raise PatternError(f"{char!r} cannot stand there")
        return _one_of(((ord(char), ord(char)),), False)

    def _group(self, depth: int) -> str:
        if self.rest.startswith("?"):
            if not self.rest.startswith("?:"):
                raise PatternError("groups that look around or have names are not supported")
            self.rest = self.rest[2:]
        inner = self.alternatives(depth + 1)
        if not self._taken(")"):
            raise PatternError("a group is not closed")
        return inner

    def _repetition(self) -> str:
        found = ""
        if self.rest[:1] in ("*", "+", "?") and self.rest:
            found = self._next()
        elif self._taken("{"):
            inside, closed, self.rest = self.rest.partition("}")
            low, comma, high = inside.partition(",")
            if not closed or not low.isdecimal() or (high and not high.isdecimal()):
                raise PatternError("a repetition is not well-formed")
            if max(int(low), int(high or 0)) > _MAX_REPEAT:
                raise PatternError(f"a repetition of more than {_MAX_REPEAT} times")
            if high and int(high) < int(low):
                raise PatternError("a repetition is not well-formed")
            found = f"{{{int(low)}{comma}{high}}}"
        if found:
            self._taken("?")  # laziness makes no difference to what is allowed
        return found

    def _class(self) -> tuple[_Ranges, bool]:
        negated = self._taken("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self.rest.startswith("]"):
            if not self.rest:
                raise PatternError("a character class is not closed")
            first = False
            low = self._class_member()
            if isinstance(low, tuple):
                ranges += low
                continue
            high: str | _Ranges = low
            if self.rest.startswith("-") and not self.rest.startswith("-]"):
                self.rest = self.rest[1:]
                high = self._class_member()
            if isinstance(high, tuple) or high < low:
                raise PatternError("a range in a character class is not well-formed")
            ranges.append((ord(low), ord(high)))
        self.rest = self.rest[1:]
        return tuple(ranges), negated

    def _class_member(self) -> str | _Ranges:
        char = self._next()
        if char != "\\":
            return char
        escaped = self._escape()
        if not isinstance(escaped, tuple):
            return escaped
        ranges, negated = escaped
        return _complement(ranges) if negated else ranges

    def _escape(self) -> str | tuple[_Ranges, bool]:
        char = self._next()
        if char.lower() in _CLASSES:
            return _CLASSES[char.lower()], char.isupper()
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char in "xu":
            digits, self.rest = self.rest[: 2 if char == "x" else 4], self.rest[2 if char == "x" else 4 :]
            try:
                return chr(int(digits, 16))
            except ValueError as error:
                raise PatternError(f"\\{char}{digits} is no character") from error
        if char.isalnum():
            raise PatternError(f"\\{char} is not supported")
        return char

    def _next(self) -> str:
        if not self.rest:
            raise PatternError("the pattern ends too early")
        char, self.rest = self.rest[0], self.rest[1:]
        return char

    def _taken(self, char: str) -> bool:
        if not self.rest.startswith(char):
            return False
        self.rest = self.rest[len(char) :]
        return True


def _complement(ranges: _Ranges) -> _Ranges:
    result, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    if start <= _LAST:
        result.append((start, _LAST))
    return tuple(result)


def _one_of(ranges: _Ranges, negated: bool) -> str:
    """One character out of ranges, written as JSON writes it: some characters only as an escape."""
    if negated:
        ranges = _complement(ranges)
    escapes = [
        f'"\\\\{_gbnf_char(ord(letter))}"'
        for code, letter in _JSON_ESCAPES.items()
        if any(low <= code <= high for low, high in ranges)
    ]
    plain = _without_escaped(ranges)
    alternatives = ([f"[{''.join(_range(low, high) for low, high in plain)}]"] if plain else []) + escapes
    if not alternatives:
        raise PatternError("no character that JSON could hold is left")
    return alternatives[0] if len(alternatives) == 1 else f"({' | '.join(alternatives)})"


def _without_escaped(ranges: _Ranges) -> _Ranges:
    """What of the ranges may stand in a JSON string as it is: no quote, no backslash, no control or surrogate."""
    forbidden: _Ranges = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), (0xD800, 0xDFFF))
    return _complement((*_complement(ranges), *forbidden))


def _range(low: int, high: int) -> str:
    return _gbnf_char(low) if low == high else f"{_gbnf_char(low)}-{_gbnf_char(high)}"


def _gbnf_char(code: int) -> str:
    return (
        chr(code)
        if chr(code).isascii() and chr(code).isalnum()
        else f"\\U{code:08X}"
        if code > 0xFF
        else f"\\x{code:02X}"
    )
