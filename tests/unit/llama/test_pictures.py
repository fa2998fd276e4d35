"""Models that see: their answers are those of llama.cpp's own helpers, in company as well as alone, reused or not."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from driver import GREEDY, Driver, ask
from llama_cpp import Llama
from llama_cpp.llama_chat_format import Llava15ChatHandler
from reference import MARKER, Reference
from tiny_llama import write_model
from tiny_llava import TOKENS, picture, write_projector
from trenza_llama.engine import ChatMessage, ChatPrompt, CountRequest, Encoding, GenerateRequest, Picture, Started
from trenza_runtime.worker.engine import EngineFailure

ARCHITECTURES = {"mlp": "llama", "qwen2vl_merger": "qwen2vl", "gemma3": "gemma3", "idefics3": "llama"}
CONTROLS = {
    "mlp": (),
    "qwen2vl_merger": ("<|vision_start|>", "<|vision_end|>"),
    "gemma3": ("<start_of_image>", "<end_of_image>"),
    "idefics3": (
        "\n\n",
        "<fake_token_around_image>",
        "<global-img>",
        *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
    ),
}

HANDLERS_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}\nUSER: {% endif %}{{ message.content }}{% endfor %}"
    "\nASSISTANT: "
)

Start = Callable[..., Driver]


@dataclass(frozen=True)
class Seeing:
    """A model and its projector."""

    kind: str
    model_path: Path
    projector_path: Path

    def start(self, start: Start, **settings: Any) -> Driver:
        return start(self.model_path, projector_path=str(self.projector_path), **settings)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seeing:
    return seeing_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Seeing:
    return seeing_model("mlp", tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Seeing:
    return seeing_model("idefics3", tmp_path_factory.mktemp("tiles"))


@pytest.fixture
def reference(seeing: Seeing) -> Iterator[Reference]:
    with ExitStack() as stack:
        yield Reference(seeing.model_path, seeing.projector_path, stack)


def seeing_model(kind: str, folder: Path) -> Seeing:
    layers = 6 if kind == "gemma3" else 2  # of which the last one looks further back than 16 tokens
    model = write_model(
        folder / "model.gguf", architecture=ARCHITECTURES[kind], layers=layers, more_controls=CONTROLS[kind]
    )
    return Seeing(kind, model, write_projector(folder / "mmproj.gguf", kind=kind))


def look(*parts: str | Picture, max_tokens: int = 24, **settings: Any) -> GenerateRequest:
    prompt = ChatPrompt((ChatMessage("user", parts),))
    return GenerateRequest(prompt, **{"sampling": GREEDY, "max_tokens": max_tokens, **settings})


def rendered(*parts: str | Picture) -> str:
    """What the tiny models' template makes of it."""
    content = "".join(part if isinstance(part, str) else MARKER for part in parts)
    return f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"


def shown(parts: tuple[str | Picture, ...]) -> list[Picture]:
    return [part for part in parts if isinstance(part, Picture)]


CONVERSATIONS: list[tuple[str | Picture, ...]] = [
    ("What is this? ", picture(1)),
    (picture(2), "and this?"),
    (picture(3), picture(4), " the difference"),
    ("wide ", picture(5, 160, 60), " tall ", picture(6, 40, 120), " which is which?"),
    (picture(1), " again ", picture(1)),
]


@pytest.mark.parametrize("batch_tokens", [7, 64])
def test_answers_are_those_of_the_librarys_own_helpers(
    start: Start, seeing: Seeing, reference: Reference, batch_tokens: int
) -> None:
    driver = seeing.start(start, batch_tokens=batch_tokens, context_length=512, flash_attention=False)
    for parts in CONVERSATIONS:
        prompt_tokens, tokens = reference.answer(rendered(*parts), shown(parts), 24)
        answer = driver.run_one(look(*parts))
        assert answer.started.prompt_tokens == prompt_tokens
        assert answer.text == reference.text(tokens)
        assert len(tokens) > 3


def test_answers_are_those_of_llama_cpp_pythons_chat_handler(start: Start, llava: Seeing) -> None:
    handler = Llava15ChatHandler(clip_model_path=str(llava.projector_path), verbose=False)
    other = Llama(str(llava.model_path), chat_handler=handler, n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
    driver = llava.start(start, context_length=512, chat_template=HANDLERS_TEMPLATE)
    for seed in (1, 2, 3):
        asked = {"type": "image_url", "image_url": {"url": data_url(picture(seed))}}
        content = [asked, {"type": "text", "text": "What is it?"}]
        reply = other.create_chat_completion(
            messages=[{"role": "system", "content": "You see."}, {"role": "user", "content": content}],
            temperature=0,
            max_tokens=16,
        )
        messages = (ChatMessage("system", "You see."), ChatMessage("user", (picture(seed), "What is it?")))
        answer = driver.run_one(GenerateRequest(ChatPrompt(messages), GREEDY, max_tokens=16))
        # It leaves out bytes that are no text, of which a random model makes many.
        assert answer.text.replace("\ufffd", "") == reply["choices"][0]["message"]["content"]
    other.close()


def data_url(shown: Picture) -> str:
    """A picture as a PNG file, uncompressed, in a URL."""
    rows = (shown.pixels[start : start + 3 * shown.width] for start in range(0, len(shown.pixels), 3 * shown.width))
    header = struct.pack(">IIBBBBB", shown.width, shown.height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_requests_together_answer_as_they_would_alone(start: Start, seeing: Seeing) -> None:
    requests = [look(*parts, cache_prompt=False) for parts in CONVERSATIONS]
    requests += [ask("a text alone", max_tokens=24), look("text only, in a conversation")]
    alone = [seeing.start(start, slots=1, context_length=512).run_one(request).text for request in requests]
    assert len(set(alone)) == len(alone)
    for settings in ({"batch_tokens": 128}, {"slots": 2, "batch_tokens": 20, "prefill_tokens": 8}):
        driver = seeing.start(start, **{"context_length": 512, **settings})
        assert [answer.text for answer in driver.run(*requests)] == alone


def test_what_a_picture_shows_changes_the_answer(start: Start, seeing: Seeing) -> None:
    driver = seeing.start(start, slots=1)
    requests = [look("What is this? ", picture(seed), max_tokens=1, top_logprobs=3) for seed in range(4)]
    answers = {tuple(one.logprob for one in driver.run_one(request).logprobs[0].top) for request in requests}
    assert len(answers) == 4


def test_a_picture_and_what_follows_are_reused(start: Start, seeing: Seeing) -> None:
    driver = seeing.start(start, context_length=512)
    first = driver.run_one(look("See: ", picture(1), " And what is it?"))
    assert first.started.cached_tokens == 0
    image_tokens = first.started.image_tokens
    again = driver.run_one(look("See: ", picture(1), " And who is it?"))
    assert again.started.cached_tokens >= image_tokens + len("<|im_start|>user\nSee:  And wh") - 12
    assert again.finished.cached_tokens == again.started.cached_tokens
    fresh = driver.run_one(look("See: ", picture(1), " And who is it?", cache_prompt=False))
    assert fresh.started.cached_tokens == 0
    assert fresh.text == again.text


def test_a_conversation_goes_on_where_it_was(start: Start, seeing: Seeing) -> None:
    driver = seeing.start(start, context_length=512)
    asked = ChatMessage("user", ("one ", picture(1), " two ", picture(2, 60, 90), " which?"))
    answer = driver.run_one(GenerateRequest(ChatPrompt((asked,)), GREEDY, max_tokens=8))
    later = ChatPrompt((asked, ChatMessage("assistant", "the first"), ChatMessage("user", ("and ", picture(3), "?"))))
    next_ = driver.run_one(GenerateRequest(later, GREEDY, max_tokens=16))
    assert next_.started.cached_tokens >= answer.started.prompt_tokens
    assert [event for event in next_.events if isinstance(event, Encoding)] == [Encoding(0, 1), Encoding(1, 1)]
    alone = seeing.start(start, context_length=512).run_one(GenerateRequest(later, GREEDY, max_tokens=16))
    assert alone.text == next_.text


def test_another_picture_is_not_taken_for_the_one_before(start: Start, seeing: Seeing) -> None:
    driver = seeing.start(start, slots=1)
    driver.run_one(look("See: ", picture(1), " What is it?"))
    other = driver.run_one(look("See: ", picture(2), " What is it?"))
    assert other.started.cached_tokens <= other.started.prompt_tokens - other.started.image_tokens
    assert other.text == seeing.start(start, slots=1).run_one(look("See: ", picture(2), " What is it?")).text


def test_an_answer_is_copied_to_another_slot_with_its_pictures(start: Start, seeing: Seeing) -> None:
    driver = seeing.start(start, slots=2)
    first = driver.submit(look("See: ", picture(1), " What is it?", max_tokens=60, ignore_eos=True))
    while not driver.answers[first].deltas:
        driver.step()
    second = driver.run_one(look("See: ", picture(1), " Who is it?"))
    assert second.started.cached_tokens >= second.started.image_tokens
    fresh = seeing.start(start, slots=1).run_one(look("See: ", picture(1), " Who is it?"))
    assert second.text == fresh.text


def test_counting_is_exact_and_looks_at_nothing(start: Start, seeing: Seeing) -> None:
    driver = seeing.start(start, context_length=512)
    for parts in CONVERSATIONS:
        counted = driver.run_one(CountRequest(ChatPrompt((ChatMessage("user", parts),)))).events[-1]
        assert driver.engine.gauges()["pictures_encoded_total"] == 0
        alone = seeing.start(start, context_length=512).run_one(look(*parts, max_tokens=1)).started
        assert (counted.prompt_tokens, counted.image_tokens) == (alone.prompt_tokens, alone.image_tokens)
    one = driver.run_one(CountRequest(ChatPrompt((ChatMessage("user", (picture(1),)),)))).events[-1]
    assert one.image_tokens == TOKENS[seeing.kind]


def encodings(driver: Driver) -> float:
    encoded: float = driver.engine.gauges()["pictures_encoded_total"]
    return encoded


def test_one_picture_of_many_requests_is_encoded_once(start: Start, tiles: Seeing) -> None:
    driver = tiles.start(start, context_length=512)
    ids = [driver.submit(look(f"{number} ", picture(1), max_tokens=3)) for number in range(6)]
    driver.finish()
    assert encodings(driver) == 1
    driver.run_one(look("later ", picture(1), picture(1), max_tokens=3))
    assert encodings(driver) == 1
    told = [[event for event in driver.answers[one].events if isinstance(event, Encoding)] for one in ids]
    assert told[0] == [Encoding(0, 1), Encoding(1, 1)]


def test_events_come_in_their_order(start: Start, llava: Seeing) -> None:
    answer = llava.start(start).run_one(look("both ", picture(1), picture(2), max_tokens=2))
    kinds = [type(event).__name__ for event in answer.events]
    assert kinds == ["Encoding", "Encoding", "Encoding", "Started", "Delta", "Delta", "Finished"]
    assert answer.events[:3] == [Encoding(0, 2), Encoding(1, 2), Encoding(2, 2)]
    assert answer.started.image_tokens == 2 * TOKENS["mlp"]


def test_a_step_encodes_one_part_so_that_answers_go_on(start: Start, tiles: Seeing) -> None:
    driver = tiles.start(start, context_length=512)
    answering = driver.submit(ask("The cat", max_tokens=100, ignore_eos=True))
    driver.step()
    looking = driver.submit(look(picture(1), max_tokens=3))
    for _ in range(5):  # four tiles and the overview …
        assert not any(isinstance(event, Started) for event in driver.answers[looking].events)
        before = len(driver.answers[answering].deltas)
        driver.step()
        assert len(driver.answers[answering].deltas) == before + 1  # … each beside a token of the answer
    assert driver.answers[looking].started


def test_those_without_pictures_do_not_wait_for_one_that_is_encoded(start: Start, tiles: Seeing) -> None:
    driver = tiles.start(start, slots=1, context_length=512)
    looking, quick = driver.submit(look(picture(1), max_tokens=3)), driver.submit(ask("hello", max_tokens=1))
    driver.step()
    assert driver.answers[quick].ended
    driver.finish()
    assert driver.answers[looking].finished


def test_cancelling_ends_the_encoding_before_its_next_part(start: Start, tiles: Seeing) -> None:
    driver = tiles.start(start, context_length=512)
    cancelled = driver.submit(look(picture(1), max_tokens=3))
    driver.step()
    driver.step()
    driver.engine.cancel(cancelled)
    assert not driver.engine.busy
    assert encodings(driver) == 0
    assert driver.run_one(look(picture(1), max_tokens=3)).text
    assert encodings(driver) == 1


def test_cancelling_one_of_two_leaves_the_encoding_to_the_other(start: Start, tiles: Seeing) -> None:
    driver = tiles.start(start, context_length=512)
    cancelled, other = (driver.submit(look(text, picture(1), max_tokens=3)) for text in ("a", "b"))
    for _ in range(4):
        driver.step()
    driver.engine.cancel(cancelled)
    driver.step()
    assert driver.answers[other].started  # the fifth part was the last one


@pytest.mark.parametrize("steps", range(1, 8))
def test_cancelling_within_a_picture_spoils_nothing(start: Start, seeing: Seeing, steps: int) -> None:
    driver = seeing.start(start, slots=1, batch_tokens=5, prefill_tokens=3)
    request = look("ab", picture(1), "cd")
    cancelled = driver.submit(request)
    for _ in range(steps + 2):
        driver.step()
    driver.engine.cancel(cancelled)
    assert driver.run_one(request).text == seeing.start(start, slots=1).run_one(request).text


def test_kept_pictures_stay_below_their_limit(start: Start, llava: Seeing) -> None:
    one_bytes = TOKENS["mlp"] * 64 * 4
    driver = llava.start(start, picture_cache_bytes=2 * one_bytes)
    for seed in (1, 2, 3, 2, 3):
        driver.run_one(look(picture(seed), max_tokens=1))
        assert driver.engine.gauges()["picture_cache_bytes"] <= 2 * one_bytes
    assert encodings(driver) == 3
    driver.run_one(look(picture(1), max_tokens=1))
    assert encodings(driver) == 4


def test_nothing_needs_to_be_kept(start: Start, llava: Seeing) -> None:
    driver = llava.start(start, picture_cache_bytes=0)
    requests = [look("What is this? ", picture(seed)) for seed in (1, 2, 1, 3)]
    texts = [answer.text for answer in driver.run(*requests)]
    assert texts == [llava.start(start).run_one(request).text for request in requests]
    assert driver.engine.gauges()["picture_cache_bytes"] == 0


def any_look(draw: random.Random) -> GenerateRequest:
    """A request as it may come: some of few pictures, some of few texts, alike at the beginning now and then."""
    words = ["See ", "what is it? ", "and ", "this one", "the cat "]
    parts: list[str | Picture] = ["See "] * draw.randint(0, 1)
    for _ in range(draw.randint(0, 3)):
        parts.append(picture(draw.randint(1, 4), draw.choice([32, 70]), draw.choice([32, 50])))
        parts += draw.choices(words, k=draw.randint(0, 2))
    settings = {"max_tokens": draw.choice([1, 4, 20]), "cache_prompt": draw.random() < 0.8}
    return look(*parts, "go", echo=draw.random() < 0.1, **settings)


@pytest.mark.parametrize("seed", range(2))
def test_storms_with_pictures_leave_the_engine_as_good_as_new(start: Start, seeing: Seeing, seed: int) -> None:
    draw = random.Random(seed)
    small = {"batch_tokens": draw.choice([16, 64]), "prefill_tokens": 8, "max_waiting": 10}
    kept = draw.choice([0, 20_000, 2**20])
    driver = seeing.start(start, slots=3, context_length=384, picture_cache_bytes=kept, **small)
    watched = look("Watched: ", picture(9, 60, 40), " what is it?")
    alone = seeing.start(start, slots=1, context_length=384).run_one(watched).text
    submitted: list[str] = []
    for number in range(80):
        submitted += [driver.submit(any_look(draw), f"storm-{number}-{k}") for k in range(draw.choice([0, 0, 1, 2]))]
        for request_id in draw.sample(submitted, k=min(len(submitted), draw.choice([0, 0, 0, 1]))):
            driver.engine.cancel(request_id)
            driver.answers[request_id].ended = 1  # the driver fails on whatever follows
        driver.step()
        assert driver.engine.gauges()["picture_cache_bytes"] <= kept
    driver.finish()
    assert all(driver.answers[request_id].ended == 1 for request_id in submitted)
    for answer in driver.answers.values():
        if answer.events and isinstance(answer.events[-1], EngineFailure):
            assert answer.failure.reason in {"CONTEXT_LENGTH_EXCEEDED", "QUEUE_FULL"}
    assert driver.run_one(watched).text == alone
    assert driver.engine.gauges()["slots_used"] == 0


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (3000, 2), (16_384, 1), (900, 900)])
def test_pictures_of_odd_sizes_are_looked_at_or_refused(start: Start, seeing: Seeing, width: int, height: int) -> None:
    driver = seeing.start(start, slots=1)
    answer = driver.run_one(look("odd ", picture(1, width, height), max_tokens=3))
    if isinstance(answer.events[-1], EngineFailure):
        assert answer.failure.reason in {"PICTURE_INVALID", "CONTEXT_LENGTH_EXCEEDED"}
    else:
        assert answer.finished.completion_tokens <= 3
    assert driver.run_one(look("usual ", picture(1), max_tokens=3)).finished


def test_a_picture_that_cannot_be_cut_into_tiles_is_refused(start: Start, tiles: Seeing) -> None:
    failure = tiles.start(start).run_one(look("odd ", picture(1, 3000, 2), max_tokens=3)).failure
    assert failure.reason == "PICTURE_INVALID"
    assert "3000 by 2 pixels" in str(failure)


def test_the_tokens_of_a_picture_can_be_bounded(start: Start, tmp_path: Path) -> None:
    qwen = seeing_model("qwen2vl_merger", tmp_path)
    prompt = ChatPrompt((ChatMessage("user", (picture(1, 400, 300),)),))
    free = qwen.start(start).run_one(CountRequest(prompt)).events[-1].image_tokens
    bound = qwen.start(start, picture_max_tokens=50).run_one(CountRequest(prompt)).events[-1].image_tokens
    assert bound <= 50 < free
