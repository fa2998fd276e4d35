"""The loop alone, on a device that fails or forgets as real ones may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from driver import Driver
from trenza_llama.device import DecodeError, Feed, NoTokenError, Sampled
from trenza_llama.engine import GenerateRequest, TokenLogprob, TokenPrompt
from trenza_llama.loop import BatchingEngine
from trenza_llama.prompts import PromptEncoder
from trenza_llama.template import CHATML, ChatTemplate
from trenza_runtime.worker.engine import ModelFacts


class Digits:
    """A vocabulary of ten digits; 9 ends the text."""

    size = 10
    bos = None
    control_texts: Sequence[str] = ()
    longest_token_bytes = 1

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        return [int(char) for char in text]

    def piece(self, token: int, special: bool) -> bytes:
        return str(token).encode()

    def ends_text(self, token: int) -> bool:
        return token == 9


class CountingDevice:
    """Says after each token the next higher one, if its memory holds what the loop believes it to hold."""

    facts = ModelFacts(slots=2, memory_bytes={})
    vocabulary = Digits()
    context_length = 64
    batch_tokens = 8
    max_rows = 4
    whole_tokens = 8
    projector = None

    def __init__(self, can_copy: bool = True) -> None:
        self.can_copy = can_copy
        self.memory: list[list[int]] = [[], []]
        self.rows: dict[int, int] = {}
        self.open_samplers = 0
        self.failures = 0
        self.forgets = False
        self.computed = 0

    def truncate(self, slot: int, length: int) -> int:
        kept = 0 if self.forgets else length
        del self.memory[slot][kept:]
        return kept

    def copy(self, source: int, target: int, length: int) -> int:
        self.memory[target] = self.memory[source][:]
        return self.truncate(target, length)

    def run(self, feeds: Sequence[Feed]) -> list[int]:
        assert sum(len(feed.tokens) for feed in feeds) <= self.batch_tokens
        assert len({feed.slot for feed in feeds}) == len(feeds)
        if self.failures:
            self.failures -= 1
            raise DecodeError("out of order")
        first_rows, start = [], 0
        self.rows = {}
        for feed in feeds:
            assert feed.position == len(self.memory[feed.slot])
            self.memory[feed.slot] += feed.tokens
            self.computed += len(feed.tokens)
            start += len(feed.tokens)
            first_rows.append(start - feed.rows)
            for row in range(feed.rows):
                self.rows[start - 1 - row] = feed.tokens[-1 - row]
        assert len(self.rows) <= self.max_rows
        return first_rows

    def sampler(self, request: GenerateRequest, prompt: Sequence[int]) -> CountingSampler:
        return CountingSampler(self)

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        return TokenLogprob(token, -1.0 if self.rows[row] + 1 == token else -9.0, str(token).encode())

    def close(self) -> None:
        self.memory = []


class CountingSampler:
    def __init__(self, device: CountingDevice) -> None:
        self._device = device
        self._open = True
        device.open_samplers += 1

    def sample(self, row: int) -> Sampled:
        assert self._open
        token = self._device.rows[row] + 1
        if token == 7:
            raise NoTokenError("SEVEN", "seven cannot be said")
        return Sampled(token % 10, None)

    def close(self) -> None:
        self._device.open_samplers -= self._open
        self._open = False


def driver_of(device: CountingDevice) -> Driver:
    encoder = PromptEncoder(device.vocabulary, ChatTemplate(CHATML, "", ""), device.context_length)
    return Driver(BatchingEngine(device, encoder, prefill_tokens=4, max_waiting=9))


def digits(text: str, **settings: Any) -> GenerateRequest:
    return GenerateRequest(TokenPrompt(tuple(int(char) for char in text)), **settings)


@pytest.fixture
def device() -> CountingDevice:
    return CountingDevice()


@pytest.fixture
def driver(device: CountingDevice) -> Driver:
    return driver_of(device)


def test_answers_go_on_where_prompts_end(driver: Driver, device: CountingDevice) -> None:
    answers = driver.run(digits("5511"), digits("8"), digits("1212121212123", max_tokens=2))
    assert [(answer.text, answer.events[-1].finish_reason) for answer in answers[1:]] == [
        ("", "stop"),
        ("45", "length"),
    ]
    assert answers[0].text == "23456"
    assert answers[0].failure.reason == "SEVEN"
    assert device.open_samplers == 0


def test_a_failed_step_ends_its_requests_and_nobody_else(driver: Driver, device: CountingDevice) -> None:
    running = [driver.submit(digits("1")), driver.submit(digits("2"))]
    waiting = driver.submit(digits("3", max_tokens=2))
    driver.step()
    device.failures = 1
    driver.finish()
    assert [driver.answers[request_id].failure.reason for request_id in running] == ["DECODE_FAILED"] * 2
    assert driver.answers[waiting].text == "45"
    assert device.open_samplers == 0


def test_what_a_failed_step_left_in_memory_is_not_reused(driver: Driver, device: CountingDevice) -> None:
    device.failures = 1
    prompt = "12345612345612"
    assert driver.run_one(digits(prompt)).failure.reason == "DECODE_FAILED"
    answer = driver.run_one(digits(prompt, max_tokens=1))
    assert answer.finished.cached_tokens == 0
    assert answer.text == "3"


def test_a_device_that_keeps_failing_is_broken(driver: Driver, device: CountingDevice) -> None:
    device.failures = 99
    for _ in range(6):
        driver.submit(digits("1"))
    with pytest.raises(RuntimeError, match="3 times in a row"):
        driver.finish()


def test_a_failure_now_and_then_is_no_breakdown(driver: Driver, device: CountingDevice) -> None:
    for _ in range(5):
        device.failures = 2
        assert driver.run_one(digits("1")).failure
        assert driver.run_one(digits("1")).failure
        assert driver.run_one(digits("1", max_tokens=1)).text == "2"


def test_memory_that_cannot_keep_a_part_is_computed_again(driver: Driver, device: CountingDevice) -> None:
    device.forgets = True
    long = "1" * 20
    driver.run_one(digits(long + "2", max_tokens=1))
    device.computed = 0
    answer = driver.run_one(digits(long + "3", max_tokens=1))
    assert answer.text == "4"
    assert answer.started.cached_tokens == 0
    assert device.computed == 21


def test_without_copying_nothing_is_shared_between_slots() -> None:
    for can_copy, cached in ((True, 20), (False, 0)):
        device = CountingDevice(can_copy)
        driver = driver_of(device)
        running = driver.submit(digits("1" * 20 + "2", max_tokens=4))
        for _ in range(5):
            driver.step()
        answer = driver.run_one(digits("1" * 20 + "3", max_tokens=1))
        assert answer.started.cached_tokens == cached
        assert answer.text == "4"
        assert driver.answers[running].text == "3456"


def test_a_request_that_cannot_be_prepared_costs_nobody_else(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    broken, good = driver.run(digits("1", top_logprobs=0, sampling=None), digits("1", max_tokens=1))
    assert broken.failure.reason == "INTERNAL"
    assert good.text == "2"
    assert "could not be prepared" in caplog.text


def test_scoring_a_prompt_respects_the_rows_of_the_device(driver: Driver, device: CountingDevice) -> None:
    prompt = "123456" * 5
    answers = driver.run(*[digits(prompt, echo=True, top_logprobs=0, max_tokens=0) for _ in range(3)])
    for answer in answers:
        assert answer.text == prompt
        assert [logprob.logprob for logprob in answer.logprobs[:8]] == [None, -1, -1, -1, -1, -1, -9, -1]
        assert len(answer.logprobs) == 30


def test_closing_frees_samplers(driver: Driver, device: CountingDevice) -> None:
    driver.submit(digits("1"))
    driver.step()
    driver.engine.close()
    assert device.open_samplers == 0
    assert device.memory == []
