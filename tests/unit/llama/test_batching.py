from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from driver import GREEDY, Driver, ask, chat
from trenza_llama.engine import ChatMessage, ChatPrompt, GenerateRequest, Sampling, TokenPrompt

TEXTS = ["The cat", "hello there, how are you?", "1 2 3", "x" * 90, "a longer text about nothing in particular", "ñ"]


def test_requests_together_answer_as_they_would_alone(start: Callable[..., Driver]) -> None:
    requests = [ask(text, max_tokens=30, cache_prompt=False) for text in TEXTS]
    requests += [replace(request, sampling=Sampling(temperature=1.2, top_k=20, seed=9)) for request in requests]
    alone = [start(slots=1).run_one(request).text for request in requests]
    together = start(slots=len(requests), batch_tokens=128, prefill_tokens=64).run(*requests)
    assert [answer.text for answer in together] == alone
    assert {answer.finished.completion_tokens for answer in together} == {30}


def test_a_request_joins_while_others_generate(engine: Driver) -> None:
    first = engine.submit(ask("The cat", max_tokens=40))
    for _ in range(5):
        engine.step()
    second = engine.submit(ask("hello", max_tokens=3))
    engine.step()
    assert engine.answers[second].started
    assert len(engine.answers[second].deltas) == 1
    for _ in range(3):
        engine.step()
    assert engine.answers[second].finished
    assert not engine.answers[first].ended
    engine.finish()
    assert engine.answers[first].text == engine.run_one(ask("The cat", max_tokens=40, cache_prompt=False)).text


def test_a_long_prompt_does_not_stop_an_answer(engine: Driver) -> None:
    answering = engine.submit(ask("The cat", max_tokens=100))
    engine.step()
    engine.submit(ask("y" * 200, max_tokens=1))
    for _ in range(200 // 32):  # the long prompt takes several steps …
        before = len(engine.answers[answering].deltas)
        engine.step()
        assert len(engine.answers[answering].deltas) == before + 1  # … each of which also makes a token of the answer


def test_a_short_prompt_does_not_wait_for_a_long_one(start: Callable[..., Driver]) -> None:
    driver = start(batch_tokens=16, prefill_tokens=8)
    long, short = driver.submit(ask("y" * 200, max_tokens=1)), driver.submit(ask("abc", max_tokens=1))
    driver.step()
    assert driver.answers[short].ended
    assert not driver.answers[long].ended


def test_requests_beyond_the_slots_wait_first_come_first_served(start: Callable[..., Driver]) -> None:
    driver = start(slots=2)
    ids = [driver.submit(ask(f"text {number}", max_tokens=5)) for number in range(6)]
    driver.step()
    assert [driver.engine.gauges()[name] for name in ("slots_used", "waiting")] == [2, 4]
    driver.finish()
    assert list(driver.answers) == ids
    assert all(driver.answers[request_id].finished for request_id in ids)


def test_requests_beyond_the_queue_are_refused(start: Callable[..., Driver]) -> None:
    driver = start(slots=2, max_waiting=3)
    ids = [driver.submit(ask(f"text {number}", max_tokens=2)) for number in range(8)]
    driver.finish()
    reasons = [getattr(driver.answers[request_id].events[-1], "reason", "served") for request_id in ids]
    assert reasons == ["served"] * 5 + ["QUEUE_FULL"] * 3
    assert driver.run_one(ask("afterwards")).finished


def test_cancelling_frees_the_slot_before_the_next_step(start: Callable[..., Driver]) -> None:
    driver = start(slots=1)
    running = driver.submit(ask("The cat", max_tokens=None, ignore_eos=True))
    waiting = driver.submit(ask("hello", max_tokens=2))
    for _ in range(3):
        driver.step()
    driver.engine.cancel(running)
    emissions = driver.step()
    assert {emission.request_id for emission in emissions} == {waiting}
    driver.finish()
    assert driver.answers[waiting].finished
    assert not driver.answers[running].ended


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_a_cancelled_request_is_never_heard_of_again(start: Callable[..., Driver], steps: int) -> None:
    driver = start(slots=1, batch_tokens=16)
    kept = driver.submit(ask("hello", max_tokens=12))
    cancelled = [driver.submit(ask("y" * 100, max_tokens=20)) for _ in range(3)]
    for _ in range(steps):
        driver.step()
    for request_id in (*cancelled, "unknown"):
        driver.engine.cancel(request_id)
    heard = {request_id: len(answer.events) for request_id, answer in driver.answers.items()}
    driver.finish()
    assert all(len(driver.answers[request_id].events) == heard.get(request_id, 0) for request_id in cancelled)
    assert driver.answers[kept].finished
    assert not driver.engine.busy


def test_a_refused_request_can_be_cancelled_too(start: Callable[..., Driver]) -> None:
    driver = start(slots=1, max_waiting=0)
    driver.submit(ask("hello", max_tokens=2))
    driver.engine.cancel(driver.submit(ask("refused")))
    driver.finish()
    assert len(driver.answers) == 1


def test_the_same_prompt_is_not_computed_twice(engine: Driver) -> None:
    request = ask("The cat sat on the mat")
    first, second = engine.run_one(request), engine.run_one(request)
    length = first.finished.prompt_tokens
    assert [first.started.cached_tokens, second.started.cached_tokens] == [0, length - 1]
    assert second.finished.cached_tokens == length - 1
    assert second.text == first.text


def test_a_conversation_goes_on_where_it_ended(engine: Driver) -> None:
    first = engine.run_one(GenerateRequest(chat("hello there"), GREEDY, max_tokens=12))
    messages = (ChatMessage("user", "hello there"), ChatMessage("assistant", "…"), ChatMessage("user", "and then?"))
    second = engine.run_one(GenerateRequest(ChatPrompt(messages), GREEDY, max_tokens=5))
    assert second.started.cached_tokens >= first.finished.prompt_tokens  # all up to the assistant's words


def test_generated_tokens_are_kept_for_the_next_prompt(engine: Driver) -> None:
    first = engine.run_one(ask("hello", max_tokens=10, top_logprobs=0, ignore_eos=True))
    prompt = tokens_of(engine, "hello")
    longer = TokenPrompt((*prompt, *(logprob.token for logprob in first.logprobs), 65, 66))
    again = engine.run_one(GenerateRequest(longer, GREEDY, max_tokens=5, top_logprobs=0))
    # The last generated token was never fed back, so it is not in the slot.
    assert again.started.cached_tokens == len(prompt) + 9
    fresh = engine.run_one(GenerateRequest(longer, GREEDY, max_tokens=5, top_logprobs=0, cache_prompt=False))
    assert fresh.started.cached_tokens == 0
    assert fresh.text == again.text


def tokens_of(engine: Driver, text: str) -> tuple[int, ...]:
    answer = engine.run_one(ask(text, max_tokens=0, echo=True, top_logprobs=0))
    return tuple(logprob.token for logprob in answer.logprobs)


def test_a_shorter_prompt_reuses_its_part(engine: Driver) -> None:
    engine.run_one(ask("abcdefghijklmnopqrstuvwxyz", max_tokens=4))
    answer = engine.run_one(ask("abcdefghijklmnopqrs###", max_tokens=4))
    assert answer.started.cached_tokens == 19
    assert answer.text == engine.run_one(ask("abcdefghijklmnopqrs###", max_tokens=4, cache_prompt=False)).text


def test_conversations_keep_their_own_slots(start: Callable[..., Driver]) -> None:
    driver = start(slots=3)
    talks = ["first conversation " * 3, "second talk " * 4, "third exchange " * 4]
    for talk in talks:
        driver.run_one(ask(talk, max_tokens=2))
    for talk in (*talks, *reversed(talks)):
        answer = driver.run_one(ask(talk + "more", max_tokens=2))
        assert answer.started.cached_tokens >= len(talk) * 0.5


def test_a_beginning_is_shared_with_a_request_that_still_runs(engine: Driver) -> None:
    system = "You are a helpful assistant and answer briefly. "
    running = engine.submit(ask(system + "What is one and one?", max_tokens=30))
    for _ in range(3):
        engine.step()
    second, third = engine.run(ask(system + "Who are you?", max_tokens=9), ask(system + "What is red?", max_tokens=9))
    for answer, question in ((second, "Who are you?"), (third, "What is red?")):
        assert answer.started.cached_tokens >= 30
        assert answer.text == engine.run_one(ask(system + question, max_tokens=9, cache_prompt=False)).text
    assert engine.answers[running].text == engine.run_one(ask(system + "What is one and one?", max_tokens=30)).text


def test_copies_made_in_one_step_do_not_mix_up(engine: Driver) -> None:
    beginnings = ["first beginning of a long text ", "a second beginning, other than that "]
    for beginning in beginnings * 2:
        engine.run_one(ask(beginning + "!", max_tokens=2))
    requests = [ask(beginning + str(number), max_tokens=9) for number in range(2) for beginning in beginnings]
    together = engine.run(*requests)
    assert sum(answer.started.cached_tokens > 20 for answer in together) >= 3
    for answer, request in zip(together, requests, strict=True):
        assert answer.text == engine.run_one(replace(request, cache_prompt=False)).text


def test_what_a_cancelled_request_computed_is_reused(engine: Driver) -> None:
    request_id = engine.submit(ask("The cat sat on the mat", max_tokens=50))
    for _ in range(4):
        engine.step()
    engine.engine.cancel(request_id)
    again = engine.run_one(ask("The cat sat on the mat", max_tokens=5))
    assert again.started.cached_tokens == again.started.prompt_tokens - 1
    assert again.text == engine.run_one(ask("The cat sat on the mat", max_tokens=5, cache_prompt=False)).text


def test_gauges_tell_what_happened(engine: Driver) -> None:
    assert engine.engine.gauges()["slots_used"] == 0
    engine.submit(ask("hello", max_tokens=5))
    engine.step()
    during = engine.engine.gauges()
    assert during["slots_used"] == 1
    assert 0 < during["kv_used_ratio"] < 1
    engine.finish()
    after = engine.engine.gauges()
    assert after["slots_used"] == after["waiting"] == after["kv_used_ratio"] == 0
    assert after["generated_tokens_total"] == 5
    assert after["steps_total"] == 5
    assert after["prompt_tokens_total"] > 3
    assert after["tokens_per_step"] == 1


def test_an_idle_engine_has_nothing_to_do(engine: Driver) -> None:
    assert not engine.engine.busy
    assert list(engine.engine.step()) == []


def test_closing_forgets_what_runs(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.submit(ask("hello", max_tokens=50))
    driver.step()
    driver.engine.close()
    assert not driver.engine.busy


def test_limits_too_small_for_the_slots_are_raised(start: Callable[..., Driver]) -> None:
    driver = start(slots=6, batch_tokens=1, prefill_tokens=1)
    assert all(answer.finished for answer in driver.run(*[ask(text, max_tokens=9) for text in TEXTS]))
