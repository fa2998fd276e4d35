from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from driver import GREEDY, Driver, ask
from trenza_llama.engine import GbnfGrammar, Grammar, JsonObjectGrammar, JsonSchemaGrammar, Sampling

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "ok": {"type": "boolean"},
            "colour": {"enum": ["red", "green", "blue"]},
            "sizes": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["ok", "colour", "sizes"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize("sampling", [GREEDY, *(Sampling(temperature=2.0, seed=seed) for seed in range(8))])
def test_a_schema_forces_valid_json_out_of_a_random_model(engine: Driver, sampling: Sampling) -> None:
    answer = engine.run_one(ask("x", max_tokens=200, sampling=sampling, grammar=JsonSchemaGrammar(SCHEMA)))
    assert answer.finished.finish_reason == "stop"
    found = json.loads(answer.text)
    assert set(found) == {"ok", "colour", "sizes"}
    assert isinstance(found["ok"], bool)
    assert found["colour"] in {"red", "green", "blue"}
    assert found["sizes"]
    assert set(found["sizes"]) <= {1, 2, 3}


def test_a_json_object_is_forced(engine: Driver) -> None:
    # Without a bias towards closing characters a random model hardly ever ends a string.
    closing = tuple((ord(char), 8.0) for char in '"}')
    sampling = Sampling(seed=4, logit_bias=closing)
    answer = engine.run_one(ask("x", max_tokens=200, sampling=sampling, grammar=JsonObjectGrammar()))
    assert answer.finished.finish_reason == "stop"
    assert isinstance(json.loads(answer.text), dict)


def test_a_grammar_of_its_own(engine: Driver) -> None:
    grammar = GbnfGrammar('root ::= ("ab" | "cd"){3} [0-9]+ "."')
    answer = engine.run_one(ask("x", sampling=Sampling(temperature=2.0, seed=1), grammar=grammar, max_tokens=100))
    assert re.fullmatch(r"(ab|cd){3}[0-9]+\.", answer.text)


def test_a_seed_gives_the_same_text_again_under_a_grammar(engine: Driver) -> None:
    request = ask("x", sampling=Sampling(temperature=2.0, seed=1), grammar=JsonSchemaGrammar(SCHEMA), max_tokens=100)
    first, other = engine.run(request, replace(request, sampling=Sampling(temperature=2.0, seed=2)))
    assert engine.run_one(request).text == first.text != other.text


def test_requests_under_different_grammars_run_together(engine: Driver) -> None:
    grammars = [GbnfGrammar(f'root ::= "{word}"') for word in ("one", "two", "three")]
    answers = engine.run(*[ask("x", grammar=grammar) for grammar in grammars], ask("x"))
    assert [answer.text for answer in answers[:3]] == ["one", "two", "three"]
    assert answers[3].text == engine.run_one(ask("x")).text


@pytest.mark.parametrize(
    "grammar",
    [
        pytest.param(GbnfGrammar(""), id="empty"),
        pytest.param(GbnfGrammar("root ::= ("), id="broken"),
        pytest.param(GbnfGrammar('start ::= "a"'), id="no root"),
        pytest.param(GbnfGrammar("root ::= missing"), id="unknown rule"),
        pytest.param(GbnfGrammar('root ::= root "a"'), id="left recursion"),
        pytest.param(GbnfGrammar('root ::= "a"{100000}'), id="too many repetitions"),
        pytest.param(GbnfGrammar("root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000), id="too deep"),
        pytest.param(GbnfGrammar('root ::= "a"' + " " * 300_000), id="too long"),
        pytest.param(GbnfGrammar('root ::= "a"\0'), id="NUL"),
        pytest.param(JsonSchemaGrammar("no JSON"), id="schema is no JSON"),
        pytest.param(JsonSchemaGrammar('{"$ref": "#/nowhere"}'), id="dangling reference"),
        pytest.param(JsonSchemaGrammar('{"$ref": "https://example.invalid/a.json"}'), id="reference elsewhere"),
        pytest.param(JsonSchemaGrammar('{"type": "string", "pattern": "("}'), id="broken pattern"),
        pytest.param(JsonSchemaGrammar("[" * 5000 + "]" * 5000), id="schema too deep"),
        pytest.param(JsonSchemaGrammar('{"type": "nonsense"}'), id="unknown type"),
    ],
)
def test_invalid_grammars_are_refused_and_harm_nobody(engine: Driver, grammar: Grammar) -> None:
    alone = engine.run_one(ask("hello")).text
    answer, beside = engine.run(ask("x", grammar=grammar), ask("hello"))
    assert answer.failure.reason == "INVALID_GRAMMAR"
    assert len(answer.events) == 1
    assert beside.text == alone


def test_what_is_wrong_with_a_grammar_is_told_to_the_client_only(
    engine: Driver, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = engine.run_one(ask("x", grammar=GbnfGrammar('root ::= "a" | missing-rule')))
    assert "missing-rule" in answer.failure.message
    assert len(answer.failure.message) < 400
    assert capfd.readouterr() == ("", "")


def test_a_grammar_that_leaves_no_token_fails_the_request(engine: Driver) -> None:
    answer = engine.run_one(ask("x", grammar=GbnfGrammar('root ::= "a" [^\\x00-\\U7FFFFFFF] "b"')))
    assert answer.failure.reason == "GRAMMAR_DEAD_END"
    assert answer.text == "a"
    assert engine.run_one(ask("x")).finished


def test_a_grammar_that_takes_too_long_fails_the_request_only(engine: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trenza_llama.engines.grammar._PATIENCE_S", 0.05)
    # Each rule may be left out: after every token all the later ones must be tried again.
    chain = "\n".join(f'r{number} ::= "a" r{number + 1} | r{number + 1}' for number in range(150))
    slow, other = engine.run(
        ask("x", max_tokens=200, grammar=GbnfGrammar(f'root ::= r0\n{chain}\nr150 ::= "b"')), ask("The cat")
    )
    assert slow.failure.reason == "GRAMMAR_TOO_SLOW"
    assert other.finished


def test_a_complete_answer_ends_even_if_the_end_is_to_be_ignored(engine: Driver) -> None:
    answer = engine.run_one(ask("x", grammar=GbnfGrammar('root ::= "ab"'), ignore_eos=True))
    assert answer.text == "ab"
    assert answer.finished.finish_reason == "stop"
