"""Turns JSON schemas into grammars (GBNF) all of whose sentences are JSON that follows the schema."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote

from trenza_llama.core.numerals import integers, numbers
from trenza_llama.core.patterns import PatternError, inside_of_string

Schema: TypeAlias = Mapping[str, Any] | bool

_MAX_CHARS = 256 * 1024
_MAX_DEPTH = 64
_MAX_RULES = 4000
_MAX_REPEAT = 2000
"""What llama.cpp accepts as a repetition."""

_MAX_LENGTH = 10 * _MAX_REPEAT
_MAX_KEY_CHARS = 1000

_PRIMITIVES = {
    "space": '| " " | "\\n" [ \\t]{0,20}',
    "hex": "[0-9a-fA-F]",
    "char": '[^"\\\\\\x00-\\x1F\\x7F] | "\\\\" (["\\\\/bfnrt] | "u" codepoint)',
    "codepoint": '[0-9abcefABCEF] hex{3} | [dD] [0-7] hex{2} | [dD] [89abAB] hex{2} "\\\\u" [dD] [c-fC-F] hex{2}',
    "dot": '[^"\\\\\\x00-\\x1F\\x7F\\u2028\\u2029] | "\\\\" ["\\\\/bft]',
    "plain": '[^"\\\\\\x00-\\x1F\\x7F]',
    "string": '"\\"" char* "\\""',
    "number": '"-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "object": '"{" space (member (space "," space member)* space)? "}"',
    "member": 'string space ":" space value',
    "array": '"[" space (value (space "," space value)* space)? "]"',
    "value": "object | array | string | number | boolean | null",
    "date": '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [-+] [01] [0-9] ":" [0-5] [0-9])',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
}
_FORMATS = {"date": "date", "time": "time", "date-time": 'date "T" time', "uuid": "uuid"}

_HINTS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"pattern", "minLength", "maxLength", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
}
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_CONSTRAINTS = frozenset().union(*_HINTS.values()) | {"type", "enum", "const", "anyOf", "oneOf", "allOf"}
_NOT_ENFORCED = frozenset(
    {
        "multipleOf", "uniqueItems", "contains", "minContains", "maxContains", "patternProperties", "propertyNames",
        "minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "not", "if", "then",
        "else", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip


class SchemaError(ValueError):
    """The schema is invalid or asks for what a grammar cannot enforce; the message says what."""


def to_gbnf(text: str, strict: bool = False) -> str:
    """The grammar of a JSON schema given as JSON.

    Objects get no properties beside those declared unless `additionalProperties` says so. What a grammar cannot enforce
    (`multipleOf`, `uniqueItems`, `not` …) is left out, or an error if `strict`. Raises SchemaError.
    """
    if len(text) > _MAX_CHARS:
        raise SchemaError(f"the JSON schema has more than {_MAX_CHARS} characters")
    try:
        schema = json.loads(text)
        return _Converter(schema, strict).grammar()
    except SchemaError:
        raise
    except RecursionError as error:
        raise SchemaError("the JSON schema is nested too deeply") from error
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise SchemaError(f"the JSON schema is not valid: {error}") from error


class _Converter:
    """Collects the rules of one grammar."""

    def __init__(self, root: Schema, strict: bool) -> None:
        self._root = root
        self._strict = strict
        self._rules: dict[str, str] = {}
        self._references = {"#": "root"}
        self._depth = 0

    def grammar(self) -> str:
        root = self._value(self._root)
        rules = {"root": root, **self._rules, **_PRIMITIVES}
        return "\n".join(f"{name} ::= {expression}" for name, expression in rules.items())

    # Each of the following returns an expression that can stand in a sequence or be repeated.

    def _value(self, schema: Schema) -> str:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise SchemaError(f"the JSON schema is nested deeper than {_MAX_DEPTH} levels")
        try:
            return self._converted(schema)
        finally:
            self._depth -= 1

    def _converted(self, schema: Schema) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            raise SchemaError(f"nothing follows the schema {json.dumps(schema)[:40]}")
        self._object_to_what_cannot_be_enforced(schema)
        if "$ref" in schema:
            return self._reference(schema)
        if schema.keys() & {"allOf", "anyOf", "oneOf"}:
            return self._combination(schema)
        if schema.keys() & {"const", "enum"}:
            allowed = [schema["const"]] if "const" in schema else schema["enum"]
            return _any_of([_literal(json.dumps(value, ensure_ascii=False)) for value in allowed])
        return _any_of([self._typed(schema, kind) for kind in _types_of(schema)])

    def _combination(self, schema: Mapping[str, Any]) -> str:
        if "allOf" in schema:
            return self._value(_merged_all([_without(schema, "allOf"), *map(self._resolved, schema["allOf"])]))
        keyword = "anyOf" if "anyOf" in schema else "oneOf"
        rest = _without(schema, keyword)
        return _any_of([self._value(self._with_siblings(rest, one)) for one in schema[keyword]])

    def _object_to_what_cannot_be_enforced(self, schema: Mapping[str, Any]) -> None:
        ignored = sorted(key for key in _NOT_ENFORCED & schema.keys() if schema[key] is not False)
        if self._strict and ignored:
            raise SchemaError(f"{ignored[0]} cannot be enforced")

    def _typed(self, schema: Mapping[str, Any], kind: str) -> str:
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, kind)
            case "boolean" | "null" | "value":
                return kind
        raise SchemaError(f"there is no type {kind!r}")

    # References and combinations

    def _reference(self, schema: Mapping[str, Any]) -> str:
        target, siblings = schema["$ref"], _without(schema, "$ref")
        if siblings.keys() & _CONSTRAINTS:
            return self._value(_merged(self._resolved({"$ref": target}), siblings))
        if target not in self._references:
            if len(self._references) > _MAX_RULES:
                raise SchemaError("the JSON schema has too many references")
            self._references[target] = name = f"ref-{len(self._references)}"
            self._rules[name] = self._value(self._looked_up(target))
        return self._references[target]

    def _resolved(self, schema: Schema) -> Schema:
        """The schema with a reference at its top replaced by what it refers to."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                return schema
            schema = _merged(self._looked_up(schema["$ref"]), _without(schema, "$ref"))
        raise SchemaError("references that lead in a circle")

    def _looked_up(self, pointer: str) -> Schema:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise SchemaError(f"only references within the schema are followed, not {json.dumps(pointer)[:80]}")
        found: Any = self._root
        for part in pointer.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise SchemaError(f"there is nothing at {pointer[:80]}") from error
        result: Schema = found
        return result

    def _with_siblings(self, siblings: Mapping[str, Any], alternative: Schema) -> Schema:
        if not siblings.keys() & _CONSTRAINTS:
            return alternative
        return _merged(siblings, self._resolved(alternative))

    # Objects and arrays

    def _object(self, schema: Mapping[str, Any]) -> str:
        declared: Mapping[str, Schema] = schema.get("properties", {})
        required = set(schema.get("required", ()))
        extra = schema.get("additionalProperties", not declared)
        undeclared = sorted(required - declared.keys())
        properties = {**declared, **{key: schema.get("additionalProperties", True) for key in undeclared}}
        if not properties and extra is True:
            return "object"
        pairs = {key: self._pair(_literal(json.dumps(key, ensure_ascii=False)), properties[key]) for key in properties}
        others = None if extra is False else self._pair(self._other_key(properties), extra)
        first, more = self._others(others)
        for key in reversed(pairs):
            then = self._rule(f'space "," space {pairs[key]} {more}')
            if key in required:
                first, more = self._rule(f"{pairs[key]} {more} space"), then
            else:
                first, more = self._rule(f"{pairs[key]} {more} space | {first}"), self._rule(f"{then} | {more}")
        return self._rule(f'"{{" space {first} "}}"')

    def _others(self, pair: str | None) -> tuple[str, str]:
        """What may follow the declared properties: as the first ones of the object, and after others."""
        if pair is None:
            return '""', '""'
        more = self._rule(f'(space "," space {pair})*')
        return self._rule(f"({pair} {more} space)?"), more

    def _pair(self, key: str, value: Schema) -> str:
        return self._rule(f'{key} space ":" space {self._value(value)}')

    def _other_key(self, declared: Iterable[str]) -> str:
        """Any key but the declared ones, which must not come twice."""
        names = [name for name in declared if json.dumps(name, ensure_ascii=False) == f'"{name}"']
        if sum(map(len, names)) > _MAX_KEY_CHARS:
            raise SchemaError(f"the names of the properties have more than {_MAX_KEY_CHARS} characters together")
        return f'"\\"" {self._differing(names)} "\\""'

    def _differing(self, names: Sequence[str]) -> str:
        """The rest of a key that differs from the rests of the names."""
        if not names:
            return "plain*"
        beginnings = sorted({name[0] for name in names if name})
        alternatives = [] if "" in names else ['""']
        alternatives.append(f'[^{"".join(map(_class_char, beginnings))}"\\\\\\x00-\\x1F\\x7F] plain*')
        for beginning in beginnings:
            rests = [name[1:] for name in names if name.startswith(beginning)]
            alternatives.append(f"{_literal(beginning)} {self._differing(rests)}")
        return self._rule(" | ".join(alternatives))

    def _array(self, schema: Mapping[str, Any]) -> str:
        items = schema.get("items", True)
        leading = schema.get("prefixItems", ())
        if isinstance(items, list):
            leading, items = items, schema.get("additionalItems", False)
        least = int(schema.get("minItems", 0))
        most = schema.get("maxItems")
        if leading and most is None and "items" not in schema:
            most = max(len(leading), least)
        if most is not None and most < least:
            raise SchemaError(f"there is no array of {least} to {most} items")
        fixed = [self._value(one) for one in leading[: most if most is not None else None]]
        rest = "" if items is False or most == len(fixed) else self._value(items)
        return self._rule(f'"[" space {self._listed(fixed, rest, least, most)} "]"')

    def _listed(self, fixed: Sequence[str], rest: str, least: int, most: int | None) -> str:
        """The items of an array with the commas between them: the fixed ones, then any number of the rest."""
        if not rest:
            least, most = max(least, len(fixed)), len(fixed)
        listed = ' space "," space '.join(fixed)
        more_least = max(0, least - len(fixed))
        more_most = None if most is None else most - len(fixed)
        if not fixed:
            if most == 0:
                return '""'
            following = self._repeated(
                f'(space "," space {rest})', max(0, least - 1), None if most is None else most - 1
            )
            return f"({rest} {following} space){'' if least else '?'}"
        following = self._repeated(f'(space "," space {rest})', more_least, more_most) if rest else '""'
        return f"{listed} {following} space"

    def _repeated(self, item: str, least: int, most: int | None) -> str:
        """The item `least` to `most` times, in portions that llama.cpp accepts."""
        if least > _MAX_LENGTH or (most is not None and most > _MAX_LENGTH and self._strict):
            raise SchemaError(f"more than {_MAX_LENGTH} repetitions cannot be enforced")
        portions = [f"{item}{{{_MAX_REPEAT}}}"] * (least // _MAX_REPEAT)
        if least % _MAX_REPEAT:
            portions.append(f"{item}{{{least % _MAX_REPEAT}}}")
        if most is None or most > _MAX_LENGTH:
            portions.append(f"{item}*")
        elif most > least:
            portions.append(self._at_most(item, most - least))
        return " ".join(portions) or '""'

    def _at_most(self, item: str, most: int) -> str:
        if most <= _MAX_REPEAT:
            return f"{item}{{0,{most}}}"
        longer = f"{item}{{{_MAX_REPEAT}}} {self._at_most(item, most - _MAX_REPEAT)}"
        return self._rule(f"{longer} | {item}{{0,{_MAX_REPEAT - 1}}}")

    # Strings and numbers

    def _string(self, schema: Mapping[str, Any]) -> str:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        sized = least > 0 or most is not None
        if "pattern" in schema:
            if self._strict and sized:
                raise SchemaError("a pattern and a length cannot be enforced together")
            try:
                return self._rule(f'"\\"" {inside_of_string(schema["pattern"], "char", "dot")} "\\""')
            except PatternError as error:
                if self._strict or not _is_regular_expression(schema["pattern"]):
                    raise SchemaError(f"the pattern {schema['pattern'][:80]!r} cannot be enforced: {error}") from error
        elif schema.get("format") in _FORMATS:
            return self._rule(f'"\\"" {_FORMATS[schema["format"]]} "\\""')
        if not sized:
            return "string"
        if most is not None and most < least:
            raise SchemaError(f"there is no string of {least} to {most} characters")
        return self._rule(f'"\\"" {self._repeated("char", least, None if most is None else int(most))} "\\""')

    def _number(self, schema: Mapping[str, Any], kind: str) -> str:
        low, above = _bound(schema, "minimum", "exclusiveMinimum", max)
        high, below = _bound(schema, "maximum", "exclusiveMaximum", min)
        if kind == "integer":
            least = None if low is None else math.floor(low) + 1 if above else math.ceil(low)
            most = None if high is None else math.ceil(high) - 1 if below else math.floor(high)
            return self._rule(integers(least, most))
        if low is None and high is None:
            return "number"
        # Bounds between integers are drawn in to the next ones: fewer numbers than allowed, but none that is not.
        least = None if low is None else math.ceil(low)
        most = None if high is None else math.floor(high)
        return self._rule(numbers(least, most, above and least == low, below and most == high))

    def _rule(self, expression: str) -> str:
        if len(self._rules) >= _MAX_RULES:
            raise SchemaError(f"the JSON schema needs more than {_MAX_RULES} rules")
        name = f"r-{len(self._rules)}"
        self._rules[name] = expression
        return name


def _is_regular_expression(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        return False
    return True


def _types_of(schema: Mapping[str, Any]) -> Sequence[str]:
    given = schema.get("type")
    if isinstance(given, str):
        return [given]
    if given:
        return list(given)
    implied = [kind for kind, keywords in _HINTS.items() if schema.keys() & keywords]
    return implied or ["value"]


def _bound(schema: Mapping[str, Any], inclusive: str, exclusive: str, tighter: Any) -> tuple[float | None, bool]:
    """A bound and whether the bound itself is excluded."""
    outer, inner = schema.get(exclusive), schema.get(inclusive)
    if isinstance(outer, bool):  # as in draft 4
        return inner, outer and inner is not None
    if outer is None:
        return inner, False
    if inner is None:
        return outer, True
    return tighter(outer, inner), tighter(outer, inner) == outer


def _merged_all(schemas: Sequence[Schema]) -> Schema:
    merged = schemas[0]
    for schema in schemas[1:]:
        merged = _merged(merged, schema)
    return merged


def _merged(one: Schema, other: Schema) -> Schema:
    """A schema that asks for what both ask for."""
    if one is False or other is False:
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return other if isinstance(one, bool) else one
    merged = dict(one)
    for key, value in other.items():
        merged[key] = _combined(key, merged[key], value) if key in merged else value
    return merged


def _combined(key: str, one: Any, other: Any) -> Any:
    """The value of a keyword that both of two merged schemas have."""
    if one == other:
        return one
    if key in _NOT_COMBINED:
        raise SchemaError(f"several {key} that must all hold are not supported")
    return _COMBINED[key](one, other) if key in _COMBINED else other


def _common_properties(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    both = {name: {"allOf": [one[name], other[name]]} for name in one.keys() & other.keys()}
    return {**one, **other, **both}


def _common_types(one: str | list[str], other: str | list[str]) -> list[str]:
    left, right = ([types] if isinstance(types, str) else types for types in (one, other))
    common = [kind for kind in _TYPES if kind in left and kind in right]
    if "integer" not in common and {"integer", "number"} <= {*left, *right}:
        common = [*(kind for kind in common if kind != "number"), "integer"]
    if not common:
        raise SchemaError(f"nothing is of the types {left} and {right} at once")
    return common


_NOT_COMBINED = frozenset({"anyOf", "oneOf", "const", "pattern", "prefixItems", "format"})
_COMBINED: Mapping[str, Callable[[Any, Any], Any]] = {
    "properties": _common_properties,
    "required": lambda one, other: [*one, *other],
    "allOf": lambda one, other: [*one, *other],
    "type": _common_types,
    "enum": lambda one, other: [value for value in one if value in other],
    "items": _merged,
    "additionalProperties": _merged,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
}


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _any_of(alternatives: Sequence[str]) -> str:
    if not alternatives:
        raise SchemaError("a choice of nothing")
    return alternatives[0] if len(alternatives) == 1 else f"({' | '.join(alternatives)})"


def _literal(text: str) -> str:
    return '"' + "".join(_LITERAL_ESCAPES.get(char, char) for char in text) + '"'


_LITERAL_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _class_char(char: str) -> str:
    return f"\\U{ord(char):08X}"
