"""The loop with pictures alone: a device that checks what it is fed, and a projector that fails as real ones may."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from driver import Driver
from test_loop import CountingDevice, CountingSampler
from trenza_llama.device import DecodeError, EncodedPart, Feed, PictureError, PictureLayout, PicturePart
from trenza_llama.engine import ChatMessage, ChatPrompt, Encoding, GenerateRequest, Picture
from trenza_llama.loop import BatchingEngine
from trenza_llama.prompts import PromptEncoder
from trenza_llama.template import ChatTemplate


@dataclass
class Part:
    seed: int
    number: int
    whole: bool
    size_bytes: int = 10


class Projector:
    """Pictures of two parts with five tokens and two positions each; the width in pixels says which picture it is."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.failure: Exception | None = None

    def layout(self, picture: Picture) -> PictureLayout:
        return ((7,), PicturePart(5, 2, self.whole), (8,), PicturePart(5, 2, self.whole))

    def encode(self, picture: Picture) -> Generator[EncodedPart, None, None]:
        for number in range(2):
            if self.failure is not None and number == 1:
                raise self.failure
            yield Part(picture.width, number, self.whole)


class SeeingDevice(CountingDevice):
    """Remembers what it was fed, and where: text as digits with their positions, pictures by part and token."""

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        self.projector: Any = Projector(whole)
        self.held: list[list[tuple[int, ...]]] = [[], []]
        self.batches: list[list[Feed]] = []

    def truncate(self, slot: int, length: int) -> int:
        self.held[slot] = [entry for entry in self.held[slot] if entry[0] < length]
        return length

    def copy(self, source: int, target: int, length: int) -> int:
        self.held[target] = self.held[source][:]
        return self.truncate(target, length)

    def run(self, feeds: Sequence[Feed]) -> list[int]:
        assert sum(len(feed.tokens) for feed in feeds) <= self.batch_tokens
        assert len({feed.slot for feed in feeds}) == len(feeds)
        assert len({feed.part is None for feed in feeds}) == 1
        self.batches.append(list(feeds))
        if self.failures:
            self.failures -= 1
            raise DecodeError("out of order")
        first_rows, start = [], 0
        self.rows = {}
        for feed in feeds:
            self.held[feed.slot] += self._entries(feed, len(feeds))
            start += len(feed.tokens)
            first_rows.append(start - feed.rows)
            for row in range(feed.rows):
                self.rows[start - 1 - row] = feed.tokens[-1 - row] if feed.part is None else 0
        return first_rows

    def sampler(self, request: GenerateRequest, prompt: Sequence[int]) -> CountingSampler:
        assert all(token >= 0 for token in prompt)
        return super().sampler(request, prompt)

    @staticmethod
    def _entries(feed: Feed, feeds: int) -> list[tuple[int, ...]]:
        part = feed.part
        if not isinstance(part, Part):
            assert all(token >= 0 for token in feed.tokens)
            return [(feed.position + place, token) for place, token in enumerate(feed.tokens)]
        assert all(token < 0 for token in feed.tokens)
        assert not part.whole or (feeds == 1 and len(feed.tokens) == 5)
        places = range(feed.offset, feed.offset + len(feed.tokens))
        return [(feed.position, -part.seed, part.number, place) for place in places]


def picture(seed: int) -> Picture:
    return Picture.of(seed, 1, bytes(3 * seed))


def driver_of(device: SeeingDevice) -> Driver:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", "", "")
    encoder = PromptEncoder(device.vocabulary, template, device.context_length, device.projector)
    return Driver(BatchingEngine(device, encoder, prefill_tokens=4, max_waiting=9, picture_cache_bytes=1000))


def look(*parts: str | Picture, **settings: Any) -> GenerateRequest:
    return GenerateRequest(ChatPrompt((ChatMessage("user", parts),)), **{"max_tokens": 2, **settings})


def entries(start: int, seed: int) -> list[tuple[int, ...]]:
    """What a slot holds of a picture that begins at that position."""
    first = [(start + 1, -seed, 0, place) for place in range(5)]
    second = [(start + 4, -seed, 1, place) for place in range(5)]
    return [(start, 7), *first, (start + 3, 8), *second]


@pytest.fixture(params=[False, True], ids=["in pieces", "whole"])
def device(request: pytest.FixtureRequest) -> SeeingDevice:
    return SeeingDevice(request.param)


def test_the_slot_holds_text_and_pictures_where_they_belong(device: SeeingDevice) -> None:
    answer = driver_of(device).run_one(look("12", picture(3), "34"))
    assert answer.text == "56"
    assert device.held[0] == [(0, 1), (1, 2), *entries(2, 3), (8, 3), (9, 4), (10, 5)]
    assert answer.started.prompt_tokens == 2 + 12 + 2
    assert answer.started.image_tokens == 10


def test_a_prompt_may_end_with_a_picture(device: SeeingDevice) -> None:
    answer = driver_of(device).run_one(look("1", picture(2)))
    assert answer.text == "12"
    assert device.held[0] == [(0, 1), *entries(1, 2), (7, 1)]


def test_requests_in_company(device: SeeingDevice) -> None:
    driver = driver_of(device)
    answers = driver.run(look("12", picture(3), "34"), look("123", picture(4), "1", picture(5), "2"), look("5"))
    assert [answer.text for answer in answers] == ["56", "34", "6"]
    assert [answer.finished.finish_reason for answer in answers[:2]] == ["length"] * 2
    assert answers[2].failure.reason == "SEVEN"


def test_a_beginning_with_a_picture_is_reused_with_its_positions(device: SeeingDevice) -> None:
    driver = driver_of(device)
    driver.run_one(look("12", picture(3), "34"))
    again = driver.run_one(look("12", picture(3), "3", "1"))
    assert again.started.cached_tokens == 2 + 12 + 1
    assert again.text == "23"
    assert device.held[0][-3:] == [(8, 3), (9, 1), (10, 2)]
    assert sum(len(feed.tokens) for batch in device.batches for feed in batch if feed.part is not None) == 10


def test_a_cut_is_never_within_a_picture(device: SeeingDevice) -> None:
    driver = driver_of(device)
    driver.run_one(look("12", picture(3)))
    again = driver.run_one(look("12", picture(3)))
    assert again.started.cached_tokens == 2 + 1 + 5 + 1  # the last part is computed again, for the sake of its end
    assert again.text == "12"
    assert device.held[0] == [(0, 1), (1, 2), *entries(2, 3), (8, 1)]


@pytest.mark.parametrize("steps", range(8))
def test_cancelled_at_any_time_the_next_finds_a_clean_slot(device: SeeingDevice, steps: int) -> None:
    driver = driver_of(device)
    request = look("12", picture(3), "34")
    cancelled = driver.submit(request)
    for _ in range(steps):
        driver.step()
    driver.engine.cancel(cancelled)
    assert not driver.engine.busy
    assert driver.run_one(request).text == "56"
    assert device.held[0] == [(0, 1), (1, 2), *entries(2, 3), (8, 3), (9, 4), (10, 5)]
    assert device.open_samplers == 0


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(PictureError("odd"), "PICTURE_INVALID"), (DecodeError("odd"), "DECODE_FAILED"), (KeyError("odd"), "INTERNAL")],
)
def test_a_failing_projector_costs_nobody_else(device: SeeingDevice, failure: Exception, reason: str) -> None:
    driver = driver_of(device)
    device.projector.failure = failure
    seeing, reading = driver.run(look("1", picture(3)), look("1"))
    assert seeing.failure.reason == reason
    assert reading.text == "23"
    device.projector.failure = None
    assert driver.run_one(look("1", picture(3), "1")).text == "23"


def test_a_failed_batch_with_pictures_ends_those_in_it(device: SeeingDevice) -> None:
    driver = driver_of(device)
    request = driver.submit(look("12", picture(3), "34"))
    while not any(feed.part for batch in device.batches for feed in batch):
        device.failures = 0
        driver.step()
    device.failures = 1
    driver.finish()
    assert driver.answers[request].failure.reason == "DECODE_FAILED"
    assert driver.run_one(look("12", picture(3), "34")).text == "56"
    assert device.held[0] == [(0, 1), (1, 2), *entries(2, 3), (8, 3), (9, 4), (10, 5)]


def test_a_part_that_fits_in_no_batch_is_refused() -> None:
    device = SeeingDevice(whole=True)
    device.whole_tokens = 4
    failure = driver_of(device).run_one(look("1", picture(3))).failure
    assert failure.reason == "PICTURE_INVALID"
    assert "5 tokens" in str(failure)


def test_a_prompt_with_pictures_can_be_echoed_but_not_scored(device: SeeingDevice) -> None:
    driver = driver_of(device)
    assert driver.run_one(look("12", picture(3), "34", echo=True)).text == "12783456"
    assert driver.run_one(look("1", picture(3), echo=True, top_logprobs=0)).failure.reason == "INVALID_PROMPT"


def test_progress_is_told_to_all_who_wait_for_the_same_picture(device: SeeingDevice) -> None:
    driver = driver_of(device)
    first, second = driver.run(look("1", picture(3), "1"), look("1", picture(3), picture(4), "1"))
    told = [[event for event in answer.events if isinstance(event, Encoding)] for answer in (first, second)]
    assert told[0] == [Encoding(0, 1), Encoding(1, 1)]
    assert told[1] == [Encoding(0, 2), Encoding(1, 2), Encoding(2, 2)]
    assert driver.engine.gauges()["pictures_encoded_total"] == 2


def test_no_more_than_one_part_is_encoded_in_a_step(device: SeeingDevice) -> None:
    driver = driver_of(device)
    driver.submit(look("1", picture(3), picture(4), "1"))
    counts = []
    for _ in range(4):
        driver.step()
        counts.append(driver.engine.gauges()["pictures_encoded_total"])
    assert counts == [0, 1, 1, 2]
