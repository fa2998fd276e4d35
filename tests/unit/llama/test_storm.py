from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from driver import GREEDY, Driver, ask, chat
from trenza_llama.engine import (
    Counted,
    CountRequest,
    Finished,
    GbnfGrammar,
    GenerateRequest,
    Grammar,
    JsonObjectGrammar,
    Sampling,
    Started,
    TextPrompt,
    TokenPrompt,
)
from trenza_runtime.worker.engine import EngineFailure

ROUNDS = 150
ENFORCED: list[Grammar] = [JsonObjectGrammar(), GbnfGrammar('root ::= "x" root | "y"'), GbnfGrammar("(")]
GRAMMARS: list[Grammar | None] = [*[None] * 6, *ENFORCED]
BEGINNINGS = ("", "You are a helpful assistant. ", "Once upon a time there was a cat that sat on a mat. ")


def any_request(draw: random.Random) -> object:
    """A request as it may come, sensible or not."""
    text = draw.choice(BEGINNINGS) + "".join(draw.choices("abc ñ🌍\n", k=draw.choice([0, 1, 5, 40, 120, 400])))
    prompt = draw.choice([TextPrompt(text), chat(text), TokenPrompt(tuple(draw.choices(range(-1, 270), k=9)))])
    if draw.random() < 0.05:
        return CountRequest(prompt)
    sampling = Sampling(
        temperature=draw.choice([0, 0, 0.7, 5.0]),
        top_k=draw.choice([0, 1, 40]),
        top_p=draw.choice([1.0, 0.5]),
        min_p=draw.choice([0.0, 0.1]),
        repeat_penalty=draw.choice([1.0, 1.3]),
        frequency_penalty=draw.choice([0.0, 1.0]),
        seed=draw.choice([None, 1]),
    )
    return GenerateRequest(
        prompt,
        sampling,
        max_tokens=draw.choice([None, 0, 1, 5, 30]),
        stop=tuple(draw.choices(["a", "\n", "ab"], k=draw.randint(0, 2))),
        ignore_eos=draw.random() < 0.3,
        top_logprobs=draw.choice([None, None, 0, 5]),
        grammar=draw.choice(GRAMMARS),
        echo=draw.random() < 0.15,
        cache_prompt=draw.random() < 0.8,
    )


@pytest.mark.parametrize("seed", range(6))
def test_storms_of_requests_and_cancellations_end_every_request_once(start: Callable[..., Driver], seed: int) -> None:
    draw = random.Random(seed)
    driver = start(slots=draw.choice([1, 3, 6]), batch_tokens=draw.choice([16, 48]), prefill_tokens=8, max_waiting=10)
    alone = driver.run_one(ask("afterwards", cache_prompt=False)).text
    submitted: list[str] = []
    cancelled: set[str] = set()
    for number in range(ROUNDS):
        for _ in range(draw.choice([0, 0, 1, 1, 3])):
            submitted.append(driver.submit(any_request(draw), f"storm-{number}-{len(submitted)}"))
        for request_id in draw.sample(submitted, k=min(len(submitted), draw.choice([0, 0, 0, 1, 2]))):
            if not driver.answers[request_id].ended:
                cancelled.add(request_id)
                driver.answers[request_id].ended = 1  # the driver fails on whatever follows
            driver.engine.cancel(request_id)
        driver.step()
        check_gauges(driver)
    driver.finish()
    assert len(submitted) > 60
    for request_id in set(submitted) - cancelled:
        answer = driver.answers[request_id]
        assert answer.ended == 1
        if isinstance(answer.events[-1], Finished):
            assert isinstance(answer.events[0], Started)
            assert sum(delta.token_count for delta in answer.deltas) == answer.finished.completion_tokens
        elif not isinstance(answer.events[-1], Counted):
            assert answer.failure.reason in KNOWN_REASONS
    # Whatever happened before, the engine is as good as new.
    assert driver.run_one(ask("afterwards")).text == alone
    assert driver.engine.gauges()["slots_used"] == 0


KNOWN_REASONS = {"CONTEXT_LENGTH_EXCEEDED", "INVALID_PROMPT", "INVALID_GRAMMAR", "GRAMMAR_DEAD_END", "QUEUE_FULL"}


def check_gauges(driver: Driver) -> None:
    gauges = driver.engine.gauges()
    assert 0 <= gauges["slots_used"] <= driver.engine.facts.slots
    assert 0 <= gauges["kv_used_ratio"] <= 1
    assert gauges["waiting"] <= 10 + driver.engine.facts.slots


def test_answers_do_not_depend_on_what_runs_beside_them(start: Callable[..., Driver]) -> None:
    """The same requests, alone and in the middle of a storm: with a slot's memory of its own each answers the same."""
    draw = random.Random(99)
    watched = [
        GenerateRequest(TextPrompt(f"watched text {number}"), sampling, max_tokens=20, cache_prompt=False)
        for number, sampling in enumerate([GREEDY, Sampling(seed=3), Sampling(seed=4, top_k=20, temperature=1.3)])
    ]
    quiet = [start().run_one(request).text for request in watched]
    driver = start(slots=6, batch_tokens=48, prefill_tokens=16)
    ids = []
    for number in range(60):
        driver.submit(any_request(draw))
        if number % 20 == 10:
            ids.append(driver.submit(watched[number // 20]))
        driver.step()
    driver.finish()
    assert [driver.answers[request_id].text for request_id in ids] == quiet


def test_a_failure_is_an_event_like_any_other(engine: Driver) -> None:
    answer = engine.run_one(GenerateRequest(TokenPrompt((-5,))))
    assert isinstance(answer.events[-1], EngineFailure)
    assert answer.ended == 1
