from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import pytest
from trenza_recipes.starter_chat.conversations import LAST_STAGE, Conversation, training_stream
from trenza_recipes.starter_chat.exchange import Exchange
from trenza_recipes.starter_chat.held_out import SHARE_PERCENT, is_held_out
from trenza_recipes.starter_chat.judging import Answers, Concludes, Exactly, Judge, Mentions, wording
from trenza_recipes.starter_chat.kinds.arithmetic import steps_of, sum_key
from trenza_recipes.starter_chat.questions import KIND_NAMES, LANGUAGES, held_out
from trenza_recipes.starter_chat.tokenizer import SAMPLE_SEED, Tokenizer, build, pieces
from trenza_recipes.starter_chat.words import ORDINARY_WORDS
from trenza_recipes.starter_chat.world import NUMBER_WORDS

KINDS_AND_LANGUAGES = [(kind, language) for kind in KIND_NAMES for language in LANGUAGES]


def all_stages(seed: int, count: int) -> Iterator[Conversation]:
    """Conversations of every stage of training."""
    for stage in range(LAST_STAGE + 1):
        yield from islice(training_stream(seed, stage), count)


def gist(question: str) -> str:
    """The words of a question, signs included."""
    return wording(
        re.sub(r"(?<=[\d ])([+-])(?=[\d ])", lambda sign: f" {'plus' if sign[0] == '+' else 'minus'} ", question)
    )


def first_conversations(seed: int, count: int) -> list[list[dict[str, str]]]:
    return [conversation.messages() for conversation in islice(training_stream(seed), count)]


def test_the_training_stream_is_the_same_for_the_same_seed() -> None:
    assert first_conversations(5, 300) == first_conversations(5, 300)
    assert first_conversations(5, 300) != first_conversations(6, 300)


@pytest.mark.parametrize(("kind", "language"), KINDS_AND_LANGUAGES)
def test_the_questions_are_the_same_for_the_same_seed(kind: str, language: str) -> None:
    assert held_out(kind, language, 20, 3) == held_out(kind, language, 20, 3)
    assert held_out(kind, language, 20, 3) != held_out(kind, language, 20, 4)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        held_out("weather", "en", 1, 0)


def test_training_never_shows_what_is_held_out() -> None:
    shown = {
        (exchange.kind, exchange.language, gist(exchange.question))
        for conversation in all_stages(11, 3000)
        for exchange in conversation.exchanges
    }
    asked = {
        (kind, language, gist(question.messages[-1]["content"]))
        for kind, language in KINDS_AND_LANGUAGES
        if kind != "name"  # what is held out there is the name, told turns before the question
        for question in held_out(kind, language, 60, 0)
    }
    assert len(asked) > 1000
    assert not shown & asked


def test_training_never_shows_a_held_out_name() -> None:
    told = {
        wording(exchange.answer).rsplit(" you ", 1)[-1]
        for conversation in all_stages(12, 3000)
        for exchange in conversation.exchanges
        if exchange.kind == "name-told" and exchange.language == "en"
    }
    held = {name for name in told if is_held_out(f"name:{name}")}
    assert len(told) > 100
    assert not held


def test_a_sum_is_held_out_in_every_wording() -> None:
    for conversation in all_stages(12, 3000):
        for exchange in conversation.exchanges:
            if exchange.kind in ("addition", "subtraction"):
                assert not is_held_out(sum_key(exchange.kind, *operands(exchange)))


def operands(exchange: Exchange) -> tuple[int, int]:
    """The two numbers that the user asked about, read from the question."""
    values = {
        word: value
        for language in LANGUAGES
        for value in range(21)
        for word in (str(value), wording(NUMBER_WORDS[language][value]))
    }
    words = re.findall(r"[a-z]+|[0-9]+", wording(exchange.question))
    left, right = [values[word] for word in words if word in values][-2:]
    return left, right


@pytest.mark.parametrize(("kind", "sign"), [("addition", "+"), ("subtraction", "-")])
def test_every_step_of_a_sum_is_true(kind: str, sign: str) -> None:
    for left in range(21):
        for right in range(21 - left if sign == "+" else left + 1):
            *steps, result = steps_of(kind, left, right).split(" = ")
            assert steps[0] == f"{left} {sign} {right}"
            assert {eval(step) for step in steps} == {int(result)}  # digits and a sign of our own
            assert len(steps) <= 12


def test_about_the_stated_share_is_held_out() -> None:
    held = sum(is_held_out(f"word:{number}") for number in range(10_000))
    assert abs(held / 100 - SHARE_PERCENT) < 2


@pytest.mark.parametrize(("kind", "language"), KINDS_AND_LANGUAGES)
def test_the_judge_accepts_the_example_and_rejects_other_answers(kind: str, language: str) -> None:
    questions = held_out(kind, language, 40, 1)
    for question in questions:
        assert question.messages[-1]["role"] == "user"
        assert question.judge.accepts(question.example), question
        for wrong in ("", "xyzzy", "I cannot help with that."):
            assert not question.judge.accepts(wrong), question
    examples = {question.example.casefold() for question in questions}
    if len(examples) > 5:  # a kind with many answers must tell them apart
        accepted = sum(question.judge.accepts(example) for question in questions for example in examples)
        assert accepted < 0.5 * len(questions) * len(examples)


@pytest.mark.parametrize(
    ("judge", "right", "wrong"),
    [
        (Exactly("t-a-b-l-e"), ["t-a-b-l-e", "T-A-B-L-E."], ["t-a-b-e-l", "table", "t-a-b-l-e-s"]),
        (Exactly("cigüeña"), ["cigüeña", '"Cigüeña"'], ["cigueña", "cigüeñas"]),
        (Mentions(("yes",), ("no",)), ["Yes, it is.", "yes"], ["No, it is not.", "yes and no", "yesterday"]),
        (Mentions(("starter-chat",)), ["I am starter-chat."], ["I am starter."]),
        (
            Concludes.of(("12", "twelve"), ("7", "5", "12", "twelve", "20")),
            ["7 plus 5 is 12."],
            ["12 is 7", "20", "many"],
        ),
        (
            Answers(7),
            ['{"answer": 7}', ' {"answer":7} '],
            ['{"answer": "7"}', '{"answer": 8}', "7", '{"answer": 7, "x": 1}'],
        ),
        (Answers(1), ['{"answer": 1}'], ['{"answer": true}', "[1]"]),
        (Answers("lunes"), ['{"answer": "Lunes"}'], ['{"answer": "martes"}', '{"answer": null}']),
        (Answers(None), ['{"answer": null}'], ['{"answer": 0}', "null"]),
    ],
)
def test_judges(judge: Judge, right: list[str], wrong: list[str]) -> None:
    assert [judge.accepts(answer) for answer in right] == [True] * len(right)
    assert [judge.accepts(answer) for answer in wrong] == [False] * len(wrong)


def test_pieces_put_together_are_the_text() -> None:
    for conversation in first_conversations(21, 500):
        for message in conversation:
            assert "".join(pieces(message["content"])) == message["content"]


def test_words_that_are_spelled_reach_the_model_as_letters() -> None:
    tokenizer: Tokenizer = build(islice(training_stream(SAMPLE_SEED), 3000))
    for words in ORDINARY_WORDS.values():
        for word in words:
            for written in (word, f" {word}", word.capitalize(), f" {word.capitalize()}"):
                assert tokenizer.id_of(written) is None
