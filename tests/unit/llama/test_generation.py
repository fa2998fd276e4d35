from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from driver import GREEDY, Driver, ask, chat
from tiny_llama import write_model
from trenza_llama.engine import (
    CountRequest,
    Detokenized,
    DetokenizeRequest,
    GbnfGrammar,
    GenerateRequest,
    Sampling,
    TextPrompt,
    Tokenized,
    TokenizeRequest,
    TokenPrompt,
)

WARM = Sampling(temperature=1.5, seed=7)


def tokens_of(engine: Driver, text: str) -> tuple[int, ...]:
    event = engine.run_one(TokenizeRequest(text)).events[-1]
    assert isinstance(event, Tokenized)
    return event.tokens


def test_a_conversation_is_answered(engine: Driver) -> None:
    answer = engine.run_one(GenerateRequest(chat("hello"), GREEDY, max_tokens=10))
    assert answer.started.prompt_tokens == answer.finished.prompt_tokens > 10
    assert answer.finished.completion_tokens == 10
    assert answer.finished.finish_reason == "length"
    assert sum(delta.token_count for delta in answer.deltas) == 10
    assert answer.text


def test_timings_add_up(engine: Driver) -> None:
    timings = engine.run_one(ask("one two three")).finished.timings
    assert timings.queue_s >= 0
    assert timings.prefill_s > 0
    assert timings.decode_s > 0


def test_without_max_tokens_the_context_is_the_limit(engine: Driver) -> None:
    answer = engine.run_one(ask("hello", max_tokens=None, ignore_eos=True))
    assert answer.finished.finish_reason == "length"
    assert answer.finished.prompt_tokens + answer.finished.completion_tokens == 256


def test_the_longest_prompt_that_fits_gets_one_token(engine: Driver) -> None:
    answer = engine.run_one(GenerateRequest(TokenPrompt((65,) * 255), GREEDY, ignore_eos=True))
    assert answer.finished.completion_tokens == 1


@pytest.mark.parametrize("length", [256, 257, 5000])
def test_a_prompt_that_does_not_fit_is_refused_with_figures(engine: Driver, length: int) -> None:
    failure = engine.run_one(GenerateRequest(TokenPrompt((65,) * length), GREEDY)).failure
    assert failure.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert failure.details == {"prompt_tokens": str(length), "limit": "256"}


def test_a_prompt_far_too_long_is_refused_without_tokenising_it(engine: Driver) -> None:
    failure = engine.run_one(ask("x" * 10_000_000)).failure
    assert failure.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert failure.details["limit"] == "256"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask(""), "INVALID_PROMPT"),
        (ask("\ud800"), "INVALID_PROMPT"),
        (GenerateRequest(TokenPrompt(())), "INVALID_PROMPT"),
        (GenerateRequest(TokenPrompt((-1,))), "INVALID_PROMPT"),
        (GenerateRequest(TokenPrompt((10**6,))), "INVALID_PROMPT"),
        (ask("a", sampling=Sampling(logit_bias=((10**6, 1.0),))), "INVALID_LOGIT_BIAS"),
    ],
)
def test_prompts_that_cannot_be_used(engine: Driver, request_: GenerateRequest, reason: str) -> None:
    answer = engine.run_one(request_)
    assert answer.failure.reason == reason
    assert len(answer.events) == 1


def test_the_end_of_text_token_ends_the_answer_and_is_not_shown(engine: Driver) -> None:
    (end,) = engine.run_one(TokenizeRequest("<|im_end|>", parse_special=True)).events[-1].tokens
    answer = engine.run_one(ask("abc", sampling=replace(GREEDY, logit_bias=((end, 100.0),))))
    assert answer.finished.finish_reason == "stop"
    assert answer.finished.stop_sequence is None
    assert answer.finished.completion_tokens == 0
    assert answer.text == ""
    on_and_on = engine.run_one(ask("abc", sampling=replace(GREEDY, logit_bias=((end, 100.0),)), ignore_eos=True))
    assert on_and_on.finished.completion_tokens == 16


@pytest.mark.parametrize("start_char", range(0, 12, 3))
@pytest.mark.parametrize("length", [1, 2, 5])
def test_stop_sequences_cut_exactly(engine: Driver, start_char: int, length: int) -> None:
    request = ask("The cat", max_tokens=40, sampling=WARM, ignore_eos=True)
    whole = engine.run_one(request).text
    stop = whole[start_char : start_char + length]
    answer = engine.run_one(replace(request, stop=(stop, "never in there")))
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finished.finish_reason == "stop"
    assert answer.finished.stop_sequence == stop


def test_text_held_back_for_a_stop_sequence_comes_at_the_end(engine: Driver) -> None:
    whole = engine.run_one(ask("The cat", max_tokens=12))
    answer = engine.run_one(ask("The cat", max_tokens=12, stop=(whole.text[-3:] + "and more",)))
    assert answer.text == whole.text
    assert answer.finished.finish_reason == "length"


def test_characters_split_over_tokens_arrive_whole(engine: Driver) -> None:
    assert len(tokens_of(engine, "ñ🌍")) == 6
    answer = engine.run_one(ask("x", grammar=GbnfGrammar('root ::= "ñ🌍!"'), top_logprobs=0))
    assert answer.text == "ñ🌍!"
    assert b"".join(logprob.text for logprob in answer.logprobs) == "ñ🌍!".encode()
    assert [delta.text for delta in answer.deltas] == ["", "ñ", "", "", "", "🌍", "!"]


def test_logprobs(engine: Driver) -> None:
    answer = engine.run_one(ask("The cat", top_logprobs=5))
    assert len(answer.logprobs) == answer.finished.completion_tokens
    for logprob in answer.logprobs:
        probabilities = [math.exp(other.logprob) for other in logprob.top]
        assert len(probabilities) == 5
        assert sum(probabilities) <= 1 + 1e-6
        assert probabilities == sorted(probabilities, reverse=True)
        assert logprob.top[0].token == logprob.token
        assert logprob.logprob == logprob.top[0].logprob


def test_logprobs_cover_the_whole_vocabulary(engine: Driver) -> None:
    facts = engine.engine.facts
    answer = engine.run_one(ask("The cat", max_tokens=1, top_logprobs=64, sampling=WARM))
    (logprob,) = answer.logprobs
    assert len(logprob.top) == 64 < int(facts.properties["vocabulary"])
    assert 0.5 < sum(math.exp(other.logprob) for other in logprob.top) < 1


def test_logprobs_are_those_before_sampling_settings(engine: Driver) -> None:
    plain = engine.run_one(ask("The cat", max_tokens=1, top_logprobs=3)).logprobs[0]
    banned = replace(GREEDY, logit_bias=((plain.token, -100.0),))
    other = engine.run_one(ask("The cat", max_tokens=1, top_logprobs=3, sampling=banned)).logprobs[0]
    assert other.top[0].token == plain.token
    assert other.token == plain.top[1].token
    assert other.logprob == pytest.approx(plain.top[1].logprob, abs=1e-4)


def test_zero_top_logprobs_still_tell_the_chosen_token(engine: Driver) -> None:
    answer = engine.run_one(ask("The cat", max_tokens=3, top_logprobs=0))
    assert [len(logprob.top) for logprob in answer.logprobs] == [0, 0, 0]
    assert all(logprob.logprob <= 0 for logprob in answer.logprobs)


def test_a_seed_gives_the_same_text_again(engine: Driver) -> None:
    first, other = engine.run(ask("a", sampling=WARM), ask("a", sampling=replace(WARM, seed=8)))
    again = engine.run_one(ask("a", sampling=WARM))
    assert first.text == again.text != other.text


def test_without_a_seed_answers_differ(engine: Driver) -> None:
    answers = engine.run(*[ask("a", sampling=Sampling(temperature=1.5)) for _ in range(4)])
    assert len({answer.text for answer in answers}) > 1


@pytest.mark.parametrize("seed", [0, -1, 2**32 - 1, 2**32, 2**63])
def test_any_integer_is_a_seed(engine: Driver, seed: int) -> None:
    request = ask("a", sampling=replace(WARM, seed=seed))
    assert engine.run_one(request).text == engine.run_one(request).text


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(temperature=1e-9), Sampling(top_p=1e-6)])
def test_settings_that_leave_one_token_are_greedy(engine: Driver, sampling: Sampling) -> None:
    greedy, other = engine.run(ask("The cat"), ask("The cat", sampling=sampling))
    assert greedy.text == other.text


@pytest.mark.parametrize(
    "sampling",
    [Sampling(top_k=3, seed=5), Sampling(min_p=0.5, seed=5), Sampling(top_p=0.3, seed=5)],
)
def test_truncating_settings_keep_to_likely_tokens(engine: Driver, sampling: Sampling) -> None:
    answer = engine.run_one(ask("The cat", max_tokens=60, sampling=sampling, top_logprobs=64))
    for logprob in answer.logprobs:
        likelier = [other for other in logprob.top if other.logprob > logprob.logprob + 1e-9]
        if sampling.top_k:
            assert len(likelier) < 3
        if sampling.min_p:
            assert logprob.logprob >= logprob.top[0].logprob + math.log(0.5) - 1e-4
        if sampling.top_p < 1:
            assert sum(math.exp(other.logprob) for other in likelier) < 0.3 + 1e-4


def test_frequency_penalty_counts_generated_tokens_only(engine: Driver) -> None:
    chosen = engine.run_one(ask("The cat", max_tokens=1, top_logprobs=0)).logprobs[0].token
    # The likeliest token stands in the prompt many times: OpenAI's penalties must not mind.
    prompt = TokenPrompt((chosen,) * 40)
    penalised = Sampling(temperature=0, frequency_penalty=50.0, presence_penalty=50.0)
    plain = engine.run_one(GenerateRequest(prompt, GREEDY, max_tokens=1, top_logprobs=2))
    same = engine.run_one(GenerateRequest(prompt, penalised, max_tokens=1, top_logprobs=0))
    assert same.logprobs[0].token == plain.logprobs[0].token
    spread = engine.run_one(GenerateRequest(prompt, penalised, max_tokens=30, top_logprobs=0))
    assert len({logprob.token for logprob in spread.logprobs}) == 30


def test_logit_bias_forces_a_token(engine: Driver) -> None:
    answer = engine.run_one(ask("a", max_tokens=5, sampling=Sampling(seed=1, logit_bias=((ord("!"), 100.0),))))
    assert answer.text == "!!!!!"


def test_echo_repeats_the_prompt_with_its_logprobs(engine: Driver) -> None:
    prompt = "The cat sat on the mat, and then there were none of them left."
    answer = engine.run_one(ask(prompt, max_tokens=4, echo=True, top_logprobs=2))
    assert answer.text.startswith(prompt)
    count = answer.finished.prompt_tokens
    assert [logprob.token for logprob in answer.logprobs[:count]] == list(tokens_of(engine, prompt))
    assert answer.logprobs[0].logprob is None
    assert all(logprob.logprob < 0 for logprob in answer.logprobs[1:])
    # The same tokens cost the same whether they are read or generated.
    plain = engine.run_one(ask(prompt, max_tokens=4, top_logprobs=2))
    longer = GenerateRequest(
        TokenPrompt((*tokens_of(engine, prompt), *(logprob.token for logprob in plain.logprobs))),
        GREEDY,
        max_tokens=0,
        echo=True,
        top_logprobs=2,
    )
    scored = engine.run_one(longer)
    assert scored.finished.completion_tokens == 0
    assert [logprob.logprob for logprob in scored.logprobs[-4:]] == pytest.approx(
        [logprob.logprob for logprob in plain.logprobs], abs=1e-3
    )


def test_echo_without_logprobs_shows_text_only(engine: Driver) -> None:
    answer = engine.run_one(ask("abc def", max_tokens=0, echo=True))
    assert answer.text == "abc def"
    assert answer.finished.finish_reason == "length"
    assert not answer.logprobs


def test_counting_matches_generating(engine: Driver) -> None:
    counted, answer = engine.run(CountRequest(chat("hello there")), GenerateRequest(chat("hello there"), max_tokens=1))
    assert counted.events[-1].prompt_tokens == answer.finished.prompt_tokens


def test_text_survives_tokenising(engine: Driver) -> None:
    text = "The niño's 🌍 <|im_end|> the end\n"
    tokens = tokens_of(engine, text)
    (event,) = engine.run_one(DetokenizeRequest(tokens)).events
    assert event == Detokenized(text)


def test_unknown_tokens_cannot_be_detokenised(engine: Driver) -> None:
    assert engine.run_one(DetokenizeRequest((10**6,))).failure.reason == "INVALID_PROMPT"


def test_control_tokens_are_shown_only_on_demand(engine: Driver) -> None:
    (start_token,) = engine.run_one(TokenizeRequest("<|im_start|>", parse_special=True)).events[-1].tokens
    forced = replace(GREEDY, logit_bias=((start_token, 100.0),))
    hidden, shown = engine.run(
        ask("a", max_tokens=2, sampling=forced), ask("a", max_tokens=2, sampling=forced, special_text=True)
    )
    assert hidden.text == ""
    assert hidden.finished.completion_tokens == 2
    assert shown.text == "<|im_start|>" * 2


def test_a_model_whose_output_is_not_a_number_fails_its_request(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start(write_model(tmp_path / "spoilt.gguf", spoil=True))
    for sampling in (GREEDY, WARM):
        assert driver.run_one(ask("a", sampling=sampling)).failure.reason == "MODEL_OUTPUT_INVALID"
    prompt = TextPrompt("a b c")
    assert driver.run_one(CountRequest(prompt)).events[-1].prompt_tokens == 5
