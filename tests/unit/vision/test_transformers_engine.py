"""The transformers engine on tiny random models: what it says is what the model's own `generate` says, whoever else is there."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from trenza_llama import engine as llama
from trenza_runtime.worker.engine import EngineFailure, ModelLoadError
from trenza_runtime.worker.process import WorkerProcess
from trenza_vision.engine import TransformersSpec
from trenza_vision.engines import loading
from trenza_vision.engines.loading import LoadedModel
from trenza_vision.engines.prompting import PromptMaker
from trenza_vision.engines.sampling import Chooser
from trenza_vision.engines.transformers import TransformersEngine, load
from trenza_vision.models import TRANSFORMERS_LOADER

STEPS = 2000
GREEDY = llama.Sampling(temperature=0)


def picture(colour: bytes, width: int = 40, height: int = 30) -> llama.Picture:
    return llama.Picture.of(width, height, colour * (width * height))


RED, BLUE = picture(b"\xff\0\0"), picture(b"\0\0\xff")
GRADIENT = llama.Picture.of(64, 48, bytes(range(256)) * 36)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return loading.load(spec_of(folder), lambda _: None)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loading.load(spec_of(tiny_models.write_gemma(tmp_path_factory.mktemp("gemma"))), lambda _: None)


@pytest.fixture
def engine(loaded: LoadedModel) -> TransformersEngine:
    return TransformersEngine(loaded, spec_of("x"))


@pytest.fixture(scope="module")
def qwen() -> LoadedModel:
    model, reader = tiny_models.qwen()
    token = reader.tokenizer.convert_tokens_to_ids(reader.image_token)
    return LoadedModel(model, reader, torch.device("cpu"), "float32", frozenset({1}), token, 256)


def spec_of(source: Path | str, **fields: Any) -> TransformersSpec:
    return TransformersSpec(str(source), **{"slots": 4, "device": "cpu", "threads": 1, **fields})


def asks(*parts: str | llama.Picture, **fields: Any) -> llama.GenerateRequest:
    prompt = llama.ChatPrompt((llama.ChatMessage("user", tuple(parts)),))
    return llama.GenerateRequest(prompt, **{"sampling": GREEDY, "max_tokens": 12, **fields})


def events_of(engine: TransformersEngine, *requests: llama.Request) -> list[list[Any]]:
    """What comes of requests that run together."""
    for name, request in enumerate(requests):
        engine.submit(str(name), request)
    told: list[list[Any]] = [[] for _ in requests]
    for _ in range(STEPS):
        for emission in engine.step():
            told[int(emission.request_id)].append(emission.event)
        if not engine.busy:
            return told
    raise AssertionError("it does not come to an end")


def text_of(events: Sequence[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, llama.Delta))


def answers(engine: TransformersEngine, *requests: llama.GenerateRequest) -> list[str]:
    return [text_of(events) for events in events_of(engine, *requests)]


def reference(loaded: LoadedModel, request: llama.GenerateRequest, **options: Any) -> str:
    """What the model itself makes of the same prompt."""
    assert isinstance(request.prompt, llama.ChatPrompt)
    inputs = PromptMaker(loaded).prompt(request.prompt).inputs
    made = loaded.model.generate(
        **inputs, max_new_tokens=request.max_tokens, do_sample=False, eos_token_id=1, **options
    )
    text: str = loaded.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


@pytest.mark.parametrize("kind", ["loaded", "qwen", "gemma"])
def test_it_says_what_the_model_itself_says_alone_and_together(kind: str, request: pytest.FixtureRequest) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    engine = TransformersEngine(model, spec_of("x"))
    wanted = [
        asks(RED, "what is in this picture?"),
        asks("what is ", GRADIENT, " and ", BLUE, "?"),
        asks("a circle", max_tokens=20),
        asks(GRADIENT, max_tokens=16),
        asks(GRADIENT, "a square", max_tokens=3),
    ]
    expected = [reference(model, one) for one in wanted]
    assert [answers(engine, one)[0] for one in wanted] == expected
    assert answers(engine, *wanted) == expected
    assert len({text[:3] for text in expected}) > 2, "pictures and words make a difference"


def test_events_come_in_order_and_count(engine: TransformersEngine) -> None:
    (events,) = events_of(engine, asks(RED, "what is", BLUE, max_tokens=5, ignore_eos=True))
    assert events[0] == llama.Encoding(0, 2)
    assert events[1] == llama.Encoding(2, 2)
    started, finished = events[2], events[-1]
    assert isinstance(started, llama.Started)
    assert isinstance(finished, llama.Finished)
    assert started.image_tokens == 2 * 4
    assert started.prompt_tokens == finished.prompt_tokens > 8
    assert finished.completion_tokens == sum(one.token_count for one in events if isinstance(one, llama.Delta)) == 5
    assert finished.finish_reason == "length"
    assert finished.timings.prefill_s > 0
    (counted,) = events_of(engine, llama.CountRequest(asks(RED, "what is", BLUE).prompt))[0]
    assert counted == llama.Counted(started.prompt_tokens, started.image_tokens)


def test_a_cancelled_answer_is_gone_before_the_next_token_and_others_go_on(
    engine: TransformersEngine, loaded: LoadedModel
) -> None:
    staying = asks(GRADIENT, "a red", max_tokens=10)
    engine.submit("goes", asks(RED, max_tokens=200, ignore_eos=True))
    engine.submit("stays", staying)
    text = ""
    for _ in range(6):
        text += text_of([emission.event for emission in engine.step() if emission.request_id == "stays"])
    engine.cancel("goes")
    while engine.busy:
        emissions = engine.step()
        assert {emission.request_id for emission in emissions} <= {"stays"}
        text += text_of([emission.event for emission in emissions])
    assert text == reference(loaded, staying)
    engine.submit("waits", asks(RED))
    engine.cancel("waits")
    engine.cancel("unknown")
    assert not engine.busy


def test_requests_beyond_the_slots_wait_and_no_more_than_may(loaded: LoadedModel) -> None:
    engine = TransformersEngine(loaded, spec_of("x", slots=1, max_waiting=2))
    told = events_of(engine, *[asks("a", max_tokens=3)] * 3)
    assert isinstance(told[2][0], EngineFailure)
    assert told[2][0].reason == "QUEUE_FULL"
    assert text_of(told[0]) == text_of(told[1]) != ""


def test_the_same_seed_says_the_same_and_others_do_not(engine: TransformersEngine) -> None:
    def drawn(seed: int, **settings: Any) -> str:
        sampling = llama.Sampling(temperature=1.5, seed=seed, **settings)
        return answers(engine, asks(RED, sampling=sampling, ignore_eos=True))[0]

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1
    greedy = answers(engine, asks(RED, ignore_eos=True))[0]
    for settings in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert drawn(3, **settings) == greedy


def test_a_bias_decides_and_penalties_count(engine: TransformersEngine) -> None:
    letter = engine._loaded.tokenizer.convert_tokens_to_ids("Z")
    forced = llama.Sampling(temperature=0, logit_bias=((letter, 1000.0),))
    assert answers(engine, asks("a", sampling=forced, max_tokens=3)) == ["ZZZ"]


@pytest.mark.parametrize("penalty", [{"frequency_penalty": 1.0}, {"presence_penalty": 1.0}, {"repeat_penalty": 2.0}])
def test_penalties_count(penalty: dict[str, Any]) -> None:
    logits = torch.tensor([0.0, 2.0, 1.5, -5.0])
    chooser = Chooser(llama.GenerateRequest(asks("a").prompt, llama.Sampling(temperature=0, **penalty)), frozenset())
    made: list[int] = []
    for _ in range(3):
        made.append(chooser.choose(torch.tensor([3, *made]), logits).token)
    assert made[:2] == [1, 2]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_keep_to_the_form_that_is_asked_for(engine: TransformersEngine, temperature: float) -> None:
    counts = {"count": {"type": "integer", "minimum": 2, "maximum": 4}}
    schema = {"type": "object", "properties": counts, "required": ["count"], "additionalProperties": False}
    grammar = llama.JsonSchemaGrammar(json.dumps(schema), strict=True)
    sampling = llama.Sampling(temperature=temperature, seed=1)
    asked = [asks(shown, grammar=grammar, sampling=sampling, max_tokens=100) for shown in (RED, GRADIENT)]
    for events in events_of(engine, *asked):
        assert json.loads(text_of(events))["count"] in (2, 3, 4)
        assert events[-1].finish_reason == "stop"
    assert answers(engine, asks(RED, grammar=llama.GbnfGrammar('root ::= "a circle"'), sampling=sampling)) == [
        "a circle"
    ]


def test_a_grammar_that_is_none_or_leads_nowhere_is_told(engine: TransformersEngine) -> None:
    for grammar, reason in (
        (llama.GbnfGrammar("root ::= ((("), "INVALID_GRAMMAR"),
        (llama.JsonSchemaGrammar("[]"), "INVALID_GRAMMAR"),
        (llama.GbnfGrammar("root ::= [^\\x00-\\U0010FFFF]"), "GRAMMAR_DEAD_END"),
    ):
        (events,) = events_of(engine, asks(RED, grammar=grammar))
        assert events[-1].reason == reason


def test_stop_texts_end_the_answer_and_are_not_part_of_it(engine: TransformersEngine) -> None:
    whole = answers(engine, asks(RED, max_tokens=30, ignore_eos=True))[0]
    stop = whole[8:11]
    (events,) = events_of(engine, asks(RED, max_tokens=30, ignore_eos=True, stop=(stop,)))
    assert text_of(events) == whole[: whole.index(stop)]
    assert (events[-1].finish_reason, events[-1].stop_sequence) == ("stop", stop)


def test_an_end_token_ends_the_answer_and_does_not_show(engine: TransformersEngine) -> None:
    certain = llama.Sampling(temperature=0, logit_bias=((1, 1000.0),))
    (events,) = events_of(engine, asks(RED, sampling=certain))
    assert text_of(events) == ""
    assert (events[-1].finish_reason, events[-1].completion_tokens) == ("stop", 0)


def test_characters_of_several_tokens_come_whole(engine: TransformersEngine) -> None:
    half = engine._loaded.tokenizer("é", add_special_tokens=False)["input_ids"][0]
    sampling = llama.Sampling(temperature=0, logit_bias=((half, 1000.0),))
    text = answers(engine, asks("a", sampling=sampling, max_tokens=3))[0]
    assert text == "\ufffd" * 3, "the rest never came"


def test_log_probabilities_are_those_of_the_model(engine: TransformersEngine, loaded: LoadedModel) -> None:
    asked = asks(RED, max_tokens=4, top_logprobs=2, ignore_eos=True)
    (events,) = events_of(engine, asked)
    notes = [note for event in events if isinstance(event, llama.Delta) for note in event.logprobs]
    assert len(notes) == 4
    assert isinstance(asked.prompt, llama.ChatPrompt)
    inputs = PromptMaker(loaded).prompt(asked.prompt).inputs
    with torch.no_grad():
        expected = torch.log_softmax(loaded.model(**inputs).logits[0, -1], dim=-1)
    assert notes[0].logprob == pytest.approx(float(expected[notes[0].token]), abs=1e-4)
    assert notes[0].top[0].logprob == pytest.approx(float(expected.max()), abs=1e-4)
    assert all(math.isfinite(note.logprob or 0) and len(note.top) == 2 for note in notes)
    assert b"".join(note.text for note in notes).decode(errors="replace") == text_of(events)


def test_what_does_not_fit_is_refused_with_figures(engine: TransformersEngine) -> None:
    (events,) = events_of(engine, asks("long " * 300))
    assert events[0].reason == "CONTEXT_LENGTH_EXCEEDED"
    assert int(events[0].details["prompt_tokens"]) > int(events[0].details["limit"]) == tiny_models.CONTEXT_LENGTH
    (events,) = events_of(engine, asks("x" * 100_000))
    assert events[0].reason == "CONTEXT_LENGTH_EXCEEDED"
    (events,) = events_of(engine, asks("a", max_tokens=None, ignore_eos=True))
    assert events[-1].prompt_tokens + events[-1].completion_tokens == tiny_models.CONTEXT_LENGTH


def test_what_is_not_served_says_so(engine: TransformersEngine) -> None:
    wrong: dict[str, llama.Request] = {
        "INVALID_LOGIT_BIAS": asks("a", sampling=llama.Sampling(logit_bias=((10**6, 1.0),))),
        "UNSUPPORTED": llama.GenerateRequest(llama.TextPrompt("Once")),
    }
    for reason, request in wrong.items():
        (events,) = events_of(engine, request)
        assert [event.reason for event in events] == [reason]


def test_control_tokens_in_peoples_text_stay_text(engine: TransformersEngine) -> None:
    (events,) = events_of(engine, asks("this is no picture: <image></s>", RED))
    assert isinstance(events[1], llama.Encoding)
    started = next(event for event in events if isinstance(event, llama.Started))
    assert started.image_tokens == 4


def test_turns_of_tools_reach_the_template(loaded: LoadedModel) -> None:
    told: list[Any] = []

    class Template:
        def __getattr__(self, name: str) -> Any:
            return getattr(loaded.processor, name)

        def apply_chat_template(self, conversation: list[Any], **options: Any) -> Any:
            told.extend(conversation)
            return loaded.processor.apply_chat_template(conversation, **options)

        def __call__(self, **options: Any) -> Any:
            return loaded.processor(**options)

    called = llama.ChatMessage("assistant", None, tool_calls=(llama.ToolCall("1", "look", '{"at": 3}'),))
    answered = llama.ChatMessage("tool", "a circle", tool_call_id="1")
    PromptMaker(replace(loaded, processor=Template())).prompt(llama.ChatPrompt((called, answered)))
    function = {"name": "look", "arguments": {"at": 3}}
    assert told[-2]["tool_calls"] == [{"type": "function", "id": "1", "function": function}]
    assert told[-1]["tool_call_id"] == "1"


def test_without_a_template_llava_is_talked_to_as_it_was_taught(tmp_path: Path) -> None:
    made = loading.load(spec_of(tiny_models.write_llava(tmp_path, template=None)), lambda _: None)
    assert made.processor.chat_template is None
    prompt = llama.ChatPrompt((llama.ChatMessage("user", (RED, "what?")),))
    ids = PromptMaker(made).prompt(prompt).inputs["input_ids"][0]
    assert made.tokenizer.decode(ids) == f"USER: {tiny_models.IMAGE * 4}\nwhat? ASSISTANT:"


def test_it_loads_from_a_folder_and_tells_what_it_is(folder: Path) -> None:
    engine = load(spec_of(folder, precision="bfloat16", context_length=100), lambda _: None)
    assert engine.facts.slots == 4
    assert engine.facts.memory_bytes["cpu"] > 10_000
    told = engine.facts.properties
    assert (told["context_length"], told["sees"], told["precision"]) == ("100", "true", "bfloat16")
    assert answers(engine, asks(RED, max_tokens=3, ignore_eos=True))[0]
    engine.close()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"four_bit": True}, "UNSUPPORTED"),
        ({"source": "/nowhere"}, "MODEL_FILE_MISSING"),
        ({"device": "tpu"}, "MODEL_LOAD_FAILED"),
        ({"device": "cuda:99"}, "MODEL_LOAD_FAILED"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load(spec_of(**{"source": folder, **fields}), lambda _: None)
    assert caught.value.reason == reason


def test_4_bits_on_a_gpu_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelLoadError, match="bitsandbytes") as caught:
        loading._four_bits(torch.device("cuda:0"), "float16")
    assert caught.value.reason == "ENGINE_MISSING"


async def test_it_runs_in_a_worker_process(folder: Path, loaded: LoadedModel) -> None:
    worker = WorkerProcess("tiny", TRANSFORMERS_LOADER, spec_of(folder))
    facts = await worker.start(lambda _: None)
    assert facts.properties["architecture"] == "LlavaForConditionalGeneration"
    asked = asks(RED, "what?")
    async with worker.open({"a": asked, "b": asks(BLUE)}) as stream:
        events = [event async for batch in stream for name, event in batch if name == "a"]
    assert text_of(events) == reference(loaded, asked)
    await worker.stop(10)


def test_a_broken_model_says_so(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelLoadError):
        load(spec_of(tmp_path), lambda _: None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError):
        load(spec_of(tmp_path), lambda _: None)
