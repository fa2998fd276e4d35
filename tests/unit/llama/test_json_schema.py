from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from driver import Driver, ask
from trenza_llama.core.json_schema import SchemaError, to_gbnf
from trenza_llama.engine import GbnfGrammar, JsonSchemaGrammar, Sampling
from trenza_llama.engines.grammar import CompiledGrammar

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer", "minimum": 0, "maximum": 9},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value"],
        }
    },
}
OPTIONAL = {"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "required": ["b"]}


@pytest.fixture(scope="module")
def vocabulary(model_path: Any) -> Any:
    from trenza_llama.engine import LlamaSpec
    from trenza_llama.engines.llama import load

    engine = load(LlamaSpec(str(model_path), slots=1, context_length=64, threads=1), lambda part: None)
    yield engine._device.vocabulary
    engine.close()


Accepts = Callable[[Any, str], bool]


@pytest.fixture
def accepts(vocabulary: Any) -> Accepts:
    """Whether the grammar of a schema accepts a text, byte by byte."""

    def accepted(schema: Any, text: str) -> bool:
        grammar = CompiledGrammar(JsonSchemaGrammar(json.dumps(schema)), vocabulary)
        try:
            for token in text.encode():
                if not grammar.allows(token):
                    return False
                grammar.accept(token)
            return any(grammar.allows(end) for end in vocabulary.end_tokens)
        finally:
            grammar.close()

    return accepted


CASES = [
    # schema, what follows it, what does not
    (True, ["1", '"x"', "null", "[1, {}]", '{"a": [true, false, -1.5e3]}'], ["", "tru", "{a: 1}", "[1,]", "01", "1."]),
    ({}, ['{"a": {}}', "[]", "0"], ["nul"]),
    ({"type": "object"}, ["{}", '{"a": 1}', '{ "a" : 1 , "b" : 2 }', '{\n  "a": 1\n}'], ["[]", '{"a"}', "{,}"]),
    ({"type": "boolean"}, ["true", "false"], ["True", "1", '"true"']),
    ({"type": "null"}, ["null"], ["none"]),
    ({"type": "number"}, ["0", "-1", "1.5", "2e10", "-0.1E-3"], ["-", "00", ".5", "1.", "+1", "NaN"]),
    ({"type": "integer"}, ["0", "-7", "123456"], ["1.0", "01", "-", "--1", "1e3"]),
    (
        {"type": "string"},
        ['""', '"ñ🌍"', '"a\\n\\"\\\\\\/"', '"\\u00e9"', '"\\ud83c\\udf0d"', "\" a 'b' {}[]:, \""],
        ['"', "'a'", '"\n"', '"\\x"', '"\\u12"', '"a"b"', '"\\ud83c"', '"\x01"'],
    ),
    ({"type": ["string", "null"]}, ['"x"', "null"], ["1", "true"]),
    ({"enum": ["red", 1, None, ["a"], "ñ\n"]}, ['"red"', "1", "null", '["a"]', '"ñ\\n"'], ["red", '"blue"', "2"]),
    ({"const": {"a": [1]}}, ['{"a": [1]}'], ['{"a": [2]}']),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"ñññ"', '"a\\n"'], ['"a"', '"abcd"', '""']),
    ({"type": "string", "minLength": 2}, ['"ab"', '"abcdefgh"'], ['"a"']),
    ({"type": "string", "maxLength": 2500}, ['""', f'"{"x" * 2001}"', f'"{"x" * 2500}"'], [f'"{"x" * 2501}"']),
    ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
    ({"type": "string", "format": "date"}, ['"2024-02-28"'], ['"2024-13-01"', '"2024-1-1"']),
    ({"type": "string", "format": "date-time"}, ['"2024-02-28T23:59:59Z"', '"2024-02-28T00:00:00.5+02:00"'], ['"x"']),
    ({"type": "string", "format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123"']),
    ({"type": "string", "format": "unheard-of"}, ['"anything"'], ["1"]),
    ({"type": "array", "items": {"type": "integer"}}, ["[]", "[1]", "[1, 2,3]", "[ 1 ]"], ["[1,]", "[,]", '["a"]']),
    ({"items": {"const": 1}, "minItems": 2, "maxItems": 3}, ["[1,1]", "[1,1,1]"], ["[]", "[1]", "[1,1,1,1]"]),
    ({"items": {"const": 1}, "minItems": 1}, ["[1]", "[1,1,1,1,1]"], ["[]"]),
    ({"items": {"const": 1}, "maxItems": 1}, ["[]", "[1]"], ["[1,1]"]),
    ({"items": {"const": 1}, "maxItems": 0}, ["[]"], ["[1]"]),
    ({"prefixItems": [{"const": 1}, {"const": 2}]}, ["[1,2]"], ["[1]", "[1,2,3]", "[2,1]"]),
    ({"prefixItems": [{"const": 1}], "items": {"const": 2}}, ["[1]", "[1,2,2]"], ["[]", "[2]", "[1,1]"]),
    (
        {"prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 2, "maxItems": 3},
        ["[1,2]"],
        ["[1]", "[1,2,2,2]"],
    ),
    ({"items": [{"const": 1}, {"const": 2}]}, ["[1,2]"], ["[1,2,3]"]),
    (PERSON, ['{"name": "Ann", "age": 7}', '{"name":"","age":130}'], ['{"age": 7}', '{"name": "A", "age": 131}', "{}"]),
    (
        OPTIONAL,
        ['{"b": 2}', '{"a": 1, "b": 2}', '{"b": 2, "c": 3}', '{"a": 1,"b": 2,"c": 3}'],
        ["{}", '{"a": 1}', '{"c": 3}', '{"b": 2, "a": 1}', '{"b": 2, "d": 1}', '{"b": 2,}', '{"b": 2, "b": 2}'],
    ),
    ({"properties": {"a": {"const": 1}}}, ["{}", '{"a": 1}'], ['{"a": 1, "a": 1}', '{"b": 1}']),
    (
        {"properties": {"ab": {"const": 1}, "ac": {"const": 2}}, "additionalProperties": {"const": 9}},
        ["{}", '{"ab": 1}', '{"ab": 1, "x": 9}', '{"a": 9}', '{"abc": 9}', '{"": 9}', '{"ac": 2, "ad": 9, "b": 9}'],
        ['{"ab": 9}', '{"x": 1}', '{"ab": 1, "ac": 9}', '{"ab": 1, "ab": 9}'],
    ),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", '{"a": 1, "b": 2}'], ['{"a": "b"}']),
    ({"type": "object", "additionalProperties": False}, ["{}"], ['{"a": 1}']),
    ({"type": "object", "required": ["x"]}, ['{"x": [1]}', '{"x": 1, "y": 2}'], ["{}", '{"y": 2}']),
    ({"properties": {'q"\\': {"const": 1}}, "required": ['q"\\']}, ['{"q\\"\\\\": 1}'], ["{}"]),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["1", "null"], ['"a"']),
    ({"oneOf": [{"const": "a"}, {"const": "b"}]}, ['"a"', '"b"'], ['"c"']),
    ({"type": "string", "anyOf": [{"maxLength": 1}, {"minLength": 3}]}, ['"a"', '"abc"'], ['"ab"', "1"]),
    (
        {
            "properties": {"k": {"const": 0}},
            "required": ["k"],
            "anyOf": [{"properties": {"x": {"const": 1}}}, {"type": "object"}],
        },
        ['{"k": 0}', '{"k": 0, "x": 1}'],
        ["{}", '{"x": 1}'],
    ),
    (
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 5}, "b": {"const": 1}}},
            ]
        },
        ['{"a": 5}', '{"a": 17, "b": 1}'],
        ["{}", '{"a": 4}', '{"b": 1}'],
    ),
    ({"allOf": [{"type": ["integer", "string"]}, {"type": "number"}]}, ["1"], ["1.5", '"a"']),
    (
        TREE,
        ['{"value": 1}', '{"value": 1, "children": [{"value": 2, "children": []}]}'],
        ["{}", '{"value": 1, "children": [1]}'],
    ),
    (
        {"properties": {"next": {"$ref": "#"}}, "additionalProperties": False, "type": "object"},
        ["{}", '{"next": {"next": {}}}'],
        ['{"next": 1}'],
    ),
    ({"$defs": {"a/b%": {"const": 1}}, "items": {"$ref": "#/$defs/a~1b%25"}}, ["[1]"], ["[2]"]),
    ({"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n", "minimum": 3}}, ["[3]", "[44]"], ["[2]"]),
    ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "null"}}, "description": "x"}, ["null"], ["1"]),
    ({"type": "string", "pattern": "^[a-c]+$"}, ['"abc"', '"a"'], ['""', '"d"', '"abd"']),
    ({"type": "string", "pattern": "b"}, ['"b"', '"abc"', '"bb"'], ['""', '"ac"']),
    ({"type": "string", "pattern": "^(ab|c)?\\d{2,3}-x*$"}, ['"ab12-"', '"123-xx"', '"c99-x"'], ['"1-"', '"abc12-"']),
    ({"type": "string", "pattern": '^"[^"]*"$'}, ['"\\"\\""', '"\\"ab\\""'], ['"ab"', '"\\"a"']),
    ({"type": "string", "pattern": "^\\w+@\\w+\\.com$"}, ['"a_1@b.com"'], ['"a@bxcom"', '"@b.com"']),
    (
        {"type": "string", "pattern": "^.\\S\\D[^a]$"},
        ['"\\tbcd"', '"ñxyz"'],
        ['"\\nbcd"', '"a cd"', '"ab1d"', '"abca"'],
    ),
    ({"type": "string", "pattern": "^\\u00f1(?:x){2}?\\\\$"}, ['"ñxx\\\\"'], ['"nxx\\\\"', '"ñx\\\\"']),
    ({"type": "string", "pattern": "(?=a)b"}, ['"anything at all"'], ["1"]),
]


def _validates(schema: Any) -> bool:
    """Whether today's JSON schema knows what is in it, and whether all of it is enforced."""
    return "(?=" not in str(schema) and not (isinstance(schema, dict) and isinstance(schema.get("items"), list))


@pytest.mark.parametrize(("schema", "follows", "breaks"), CASES, ids=[json.dumps(case[0])[:60] for case in CASES])
def test_what_a_schema_allows(accepts: Accepts, schema: Any, follows: list[str], breaks: list[str]) -> None:
    for text in follows:
        assert accepts(schema, text), f"{text} was refused"
        if _validates(schema):
            jsonschema.validate(json.loads(text), schema)
    for text in breaks:
        assert not accepts(schema, text), f"{text} was accepted"


BOUNDS = [
    (None, None),
    (0, None),
    (1, None),
    (None, 0),
    (None, -1),
    (-5, 5),
    (3, 3),
    (0, 9),
    (7, 123),
    (95, 1105),
    (-1200, -37),
    (10, None),
    (None, 99),
    (-20, None),
]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_integers_within_bounds(accepts: Accepts, low: int | None, high: int | None) -> None:
    schema = (
        {"type": "integer"} | ({} if low is None else {"minimum": low}) | ({} if high is None else {"maximum": high})
    )
    draw = random.Random(1)
    tried = {*range(-12, 13), *draw.choices(range(-1300, 1300), k=40)}
    tried |= {bound + near for bound in (low, high) if bound is not None for near in (-1, 0, 1, 10, -10)}
    for number in tried:
        inside = (low is None or number >= low) and (high is None or number <= high)
        assert accepts(schema, str(number)) == inside, number


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("excluded", [False, True])
def test_numbers_within_bounds(accepts: Accepts, low: int | None, high: int | None, excluded: bool) -> None:
    if excluded and low == high and low is not None:
        with pytest.raises(SchemaError):
            to_gbnf(json.dumps({"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high}))
        return
    names = ("exclusiveMinimum", "exclusiveMaximum") if excluded else ("minimum", "maximum")
    schema: dict[str, Any] = {"type": "number"}
    schema |= {name: bound for name, bound in zip(names, (low, high), strict=True) if bound is not None}
    draw = random.Random(2)
    tried = {
        0.0,
        0.5,
        -0.5,
        *(draw.uniform(-30, 30) for _ in range(20)),
        *(draw.uniform(-1300, 1300) for _ in range(20)),
    }
    tried |= {bound + near for bound in (low, high) if bound is not None for near in (-1, -0.25, 0, 0.25, 1)}
    for number in tried:
        if excluded:
            inside = (low is None or number > low) and (high is None or number < high)
        else:
            inside = (low is None or number >= low) and (high is None or number <= high)
        text = f"{number:.6f}".rstrip("0").rstrip(".")
        if float(text) in (low, high, number):
            assert accepts(schema, text) == inside, text
    if low is not None and not excluded:
        assert accepts(schema, f"{low}.000")


@pytest.mark.parametrize(
    ("schema", "works"),
    [
        ({"type": "number", "minimum": 0.5, "maximum": 2.5}, ["1", "1.75", "2"]),
        ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, ["1", "2"]),
        ({"type": "integer", "exclusiveMinimum": 1, "maximum": 3}, ["2", "3"]),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, ["2"]),
    ],
)
def test_other_bounds(accepts: Accepts, schema: Any, works: list[str]) -> None:
    for text in works:
        assert accepts(schema, text)
    for text in ("0", "0.25", "3.5", "4", "1" if "exclusiveMinimum" in schema else "0"):
        assert not accepts({**schema, "maximum": schema.get("maximum", 3)}, text), text


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param("{", id="no JSON"),
        pytest.param(False, id="nothing allowed"),
        pytest.param(7, id="no schema"),
        pytest.param({"type": "nonsense"}, id="unknown type"),
        pytest.param({"type": [[]]}, id="broken type"),
        pytest.param({"enum": []}, id="choice of nothing"),
        pytest.param({"anyOf": []}, id="alternative of nothing"),
        pytest.param({"$ref": "#/nowhere"}, id="dangling reference"),
        pytest.param({"$ref": "https://example.invalid/schema.json"}, id="reference elsewhere"),
        pytest.param({"$ref": "#", "type": "object"}, id="endless reference"),
        pytest.param({"$ref": 7}, id="broken reference"),
        pytest.param({"properties": [1]}, id="properties are no object"),
        pytest.param({"required": 1, "type": "object"}, id="required is no list"),
        pytest.param({"type": "string", "minLength": 10**9}, id="endless string"),
        pytest.param({"type": "string", "minLength": 3, "maxLength": 2}, id="no such string"),
        pytest.param({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, id="no such array"),
        pytest.param({"type": "integer", "minimum": 3, "maximum": 2}, id="no such integer"),
        pytest.param({"type": "integer", "minimum": "x"}, id="broken bound"),
        pytest.param({"type": "number", "minimum": 1e400}, id="infinite bound"),
        pytest.param({"allOf": [{"type": "string"}, {"type": "integer"}]}, id="contradiction"),
        pytest.param({"type": "string", "pattern": "("}, id="broken pattern"),
        pytest.param(
            {"properties": {str(number): {"properties": {"a": {}}} for number in range(3000)}}, id="too large"
        ),
        pytest.param("[" * 100_000, id="too deep"),
        pytest.param('{"items": ' * 100 + "{}" + "}" * 100, id="too deep for a grammar"),
    ],
)
def test_schemas_that_cannot_be_used(schema: Any) -> None:
    with pytest.raises(SchemaError):
        to_gbnf(schema if isinstance(schema, str) else json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "multipleOf": 3},
        {"type": "array", "items": {}, "uniqueItems": True},
        {"not": {"type": "string"}},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": "a+", "maxLength": 4},
        {"type": "object", "patternProperties": {"^x": {}}},
    ],
)
def test_strict_refuses_what_cannot_be_enforced(schema: Any) -> None:
    to_gbnf(json.dumps(schema))
    with pytest.raises(SchemaError, match="cannot be enforced"):
        to_gbnf(json.dumps(schema), strict=True)
    to_gbnf(json.dumps({"type": "array", "items": {}, "uniqueItems": False}), strict=True)


GENERATED = [case[0] for case in CASES if case[0] not in ({},)] + [
    {"type": "object", "properties": {f"p{number}": {"enum": [1, 2]} for number in range(300)}},
    {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 2},
]


@pytest.mark.parametrize("schema", GENERATED, ids=[json.dumps(schema)[:60] for schema in GENERATED])
def test_whatever_a_random_model_says_follows_the_schema(engine: Driver, schema: Any) -> None:
    closing = tuple((ord(char), 6.0) for char in '"}]')  # it would hardly ever end a string by chance
    requests = [
        ask(
            "x",
            max_tokens=240,
            sampling=Sampling(temperature=1.5, seed=seed, logit_bias=closing),
            grammar=JsonSchemaGrammar(json.dumps(schema)),
        )
        for seed in range(3)
    ]
    for answer in engine.run(*requests):
        if answer.finished.finish_reason == "length" or "�" in answer.text:
            continue
        found = json.loads(answer.text)
        if _validates(schema):
            jsonschema.validate(found, schema)


def test_every_grammar_made_is_one_that_llama_cpp_takes(engine: Driver) -> None:
    for schema in GENERATED:
        answer = engine.run_one(ask("x", max_tokens=1, grammar=GbnfGrammar(to_gbnf(json.dumps(schema)))))
        assert answer.finished, schema
