"""From OpenAI's JSON to protos and back, without any server."""

from __future__ import annotations

import gc
import json
from typing import Any, get_type_hints

import grpc
import pytest
from openai.types import completion_create_params
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as chat_params
from trenza.chat.v1 import chat_pb2
from trenza.common.v1 import common_pb2
from trenza_gateway.openai.answers import AnswerError, Identity
from trenza_gateway.openai.bodies import path_of
from trenza_gateway.openai.chat import ChatAnswer, ChatChunks, chat_request
from trenza_gateway.openai.completions import CompletionChunks, completion_requests
from trenza_gateway.openai.errors import ApiError, error_of_fault
from trenza_gateway.openai.fields import CHAT_FIELDS, COMPLETION_FIELDS, HONOURED, ignored_header, unknown_fields
from trenza_gateway.openai.requests import ChatBody, CompletionBody, parse
from trenza_runtime.errors import Reason, RpcFault

IDENTITY = Identity("chatcmpl-1", 1_700_000_000, "m")


def chat(*messages: Any, **fields: Any) -> chat_pb2.ChatRequest:
    return chat_request(chat_body(*messages, **fields))


def chat_body(*messages: Any, **fields: Any) -> ChatBody:
    said = list(messages) or [{"role": "user", "content": "hi"}]
    return parse(ChatBody, json.dumps({"model": "m", "messages": said, **fields}).encode())


class TestTheTableOfFields:
    def test_every_field_of_the_official_client_is_in_it(self) -> None:
        assert set(get_type_hints(chat_params.CompletionCreateParamsBase)) | {"stream"} <= set(CHAT_FIELDS)
        assert set(get_type_hints(completion_create_params.CompletionCreateParamsBase)) | {"stream"} <= set(
            COMPLETION_FIELDS
        )

    @pytest.mark.parametrize(("body", "table"), [(ChatBody, CHAT_FIELDS), (CompletionBody, COMPLETION_FIELDS)])
    def test_exactly_the_honoured_ones_are_read(self, body: type[ChatBody], table: dict[str, Any]) -> None:
        assert set(body.model_fields) == {name for name, rule in table.items() if rule is HONOURED}

    def test_every_other_rule_has_a_reason(self) -> None:
        for rule in (*CHAT_FIELDS.values(), *COMPLETION_FIELDS.values()):
            assert rule is HONOURED or rule.why

    def test_unknown_names_come_back(self) -> None:
        assert unknown_fields({"user": "x", "zzz": 1}, CHAT_FIELDS) == ["zzz"]
        with pytest.raises(ApiError):
            unknown_fields({"tools": [1]}, CHAT_FIELDS)

    def test_the_header_is_harmless_and_bounded(self) -> None:
        value = ignored_header(["a\r\nb: c", *[f"n{number}" * 30 for number in range(100)]])
        assert value.startswith("a??b??c, ")
        assert value.isascii()
        assert value.isprintable()
        assert len(value) < 1100
        assert value.endswith("...")


def test_millions_of_values_are_not_searched_for_cycles() -> None:
    collections: list[str] = []

    def note(phase: str, _info: Any) -> None:
        collections.append(phase)

    gc.callbacks.append(note)
    try:
        body = chat_body(unknown=[[]] * 50_000)
    finally:
        gc.callbacks.remove(note)
    assert len((body.model_extra or {})["unknown"]) == 50_000
    assert len(collections) < 10, "some follow once it works again"
    assert gc.isenabled()
    with pytest.raises(ApiError):
        parse(ChatBody, b"{")
    assert gc.isenabled()


class TestChatRequests:
    def test_roles_and_contents(self) -> None:
        request = chat(
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "4", "tool_call_id": "1"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        )
        roles = [chat_pb2.Role.Name(message.role) for message in request.messages]
        assert roles == ["ROLE_SYSTEM", "ROLE_USER", "ROLE_ASSISTANT", "ROLE_TOOL", "ROLE_ASSISTANT"]
        assert [[part.text for part in message.content] for message in request.messages[:2]] == [["Be brief."], ["ab"]]
        assert request.messages[1].name == "Ann"
        assert request.messages[2].tool_calls[0].arguments_json == "{}"
        assert not request.messages[2].content
        assert request.messages[3].tool_call_id == "1"
        assert request.messages[4].refusal == "no"

    def test_what_is_not_said_stays_unset(self) -> None:
        options = chat().options
        unset = {field.name for field, _ in options.ListFields()}
        assert unset == {"choices"}

    def test_options(self) -> None:
        options = chat(
            temperature=0, top_p=0.5, top_k=-1, min_p=0.1, repetition_penalty=1.5, presence_penalty=1, frequency_penalty=-1,
            seed=-5, stop="x", logit_bias={"7": -100}, n=2, logprobs=True, top_logprobs=4, max_tokens=3, ignore_eos=True,
        ).options  # fmt: skip
        assert options.HasField("temperature")
        assert options.temperature == 0
        assert options.HasField("top_k")
        assert options.top_k == 0
        assert (options.repeat_penalty, options.seed, list(options.stop)) == (1.5, -5, ["x"])
        assert (dict(options.logit_bias), options.choices, options.top_logprobs) == ({7: -100.0}, 2, 4)
        assert (options.max_tokens, options.ignore_end) == (3, True)
        assert chat(max_tokens=3, max_completion_tokens=4).options.max_tokens == 4
        assert chat(repeat_penalty=1.1, repetition_penalty=1.5).options.repeat_penalty == pytest.approx(1.1)
        assert not chat(logprobs=False).options.HasField("top_logprobs")
        assert chat(logprobs=True).options.HasField("top_logprobs")

    def test_response_formats(self) -> None:
        assert not chat(response_format={"type": "text"}).HasField("response_format")
        assert chat(response_format={"type": "json_object"}).response_format.HasField("json_object")
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        said = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}
        wanted = chat(response_format=said).response_format.json_schema
        assert (wanted.name, json.loads(wanted.schema), wanted.strict) == ("thing", schema, True)
        assert chat(grammar="root ::= [a]").response_format.grammar.gbnf == "root ::= [a]"


def test_completion_requests() -> None:
    def requests(**fields: Any) -> list[chat_pb2.CompleteRequest]:
        return completion_requests(parse(CompletionBody, json.dumps({"model": "m", **fields}).encode()))

    [one] = requests(prompt="x", echo=True, logprobs=0)
    assert (one.text, one.echo, one.options.max_tokens, one.options.HasField("top_logprobs")) == ("x", True, 16, True)
    assert [r.text for r in requests(prompt=["a", "b"])] == ["a", "b"]
    assert [list(r.tokens.ids) for r in requests(prompt=[1, 2])] == [[1, 2]]
    assert [list(r.tokens.ids) for r in requests(prompt=[[1, 2], [3]])] == [[1, 2], [3]]


USAGE = common_pb2.TokenUsage(prompt_tokens=5, completion_tokens=2)
LAST = chat_pb2.ChatResponse(
    deltas=[chat_pb2.ChatDelta(content="!", finish_reason=chat_pb2.FINISH_REASON_LENGTH)], usage=USAGE
)


def delta(**fields: Any) -> chat_pb2.ChatResponse:
    return chat_pb2.ChatResponse(deltas=[chat_pb2.ChatDelta(**fields)], fingerprint="fp")


class TestChatAnswers:
    def test_the_official_client_understands_it(self) -> None:
        logprob = chat_pb2.TokenLogprob(
            token="é",
            token_bytes="é".encode(),
            logprob=float("-inf"),
            top=[chat_pb2.TopLogprob(token="e", logprob=-0.5)],
        )
        answer = ChatAnswer(IDENTITY, chat_body(logprobs=True, top_logprobs=1))
        answer.add(delta(content="é", reasoning="hm", logprobs=[logprob]))
        answer.add(LAST)
        parsed = ChatCompletion.model_validate_json(answer.body())
        [choice] = parsed.choices
        assert choice.message.content == "é!"
        assert choice.finish_reason == "length"
        assert choice.message.model_extra == {"reasoning_content": "hm"}
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert choice.logprobs.content[0].logprob == -9999.0
        assert choice.logprobs.content[0].bytes == [195, 169]
        assert choice.logprobs.content[0].top_logprobs[0].token == "e"

    def test_what_does_not_end_is_no_answer(self) -> None:
        answer = ChatAnswer(IDENTITY, chat_body(n=2))
        answer.add(LAST)
        with pytest.raises(AnswerError, match=r"\[1\]"):
            answer.body()
        without_usage = ChatAnswer(IDENTITY, chat_body())
        without_usage.add(delta(finish_reason=chat_pb2.FINISH_REASON_STOP))
        with pytest.raises(AnswerError, match="used"):
            without_usage.body()

    def test_choices_that_nobody_asked_for_are_dropped(self) -> None:
        answer = ChatAnswer(IDENTITY, chat_body())
        answer.add(delta(choice=7, content="x"))
        answer.add(LAST)
        assert len(json.loads(answer.body())["choices"]) == 1


class TestChatChunks:
    def chunks(self, frames: bytes) -> list[ChatCompletionChunk]:
        texts = frames.decode().split("\n\n")[:-1]
        return [
            ChatCompletionChunk.model_validate_json(text.removeprefix("data: "))
            for text in texts
            if text != "data: [DONE]"
        ]

    def test_what_became_ready_together_is_one_write(self) -> None:
        stream = ChatChunks(IDENTITY, chat_body(n=2))
        message = chat_pb2.ChatResponse(
            deltas=[chat_pb2.ChatDelta(choice=c, content=t) for c, t in ((0, "a"), (1, "b"), (0, "c"))]
        )
        shown = [
            (c.choices[0].index, c.choices[0].delta.role, c.choices[0].delta.content)
            for c in self.chunks(stream.frames(message))
        ]
        assert shown == [(0, "assistant", ""), (0, None, "a"), (1, "assistant", ""), (1, None, "b"), (0, None, "c")]

    def test_text_and_end_in_one_delta(self) -> None:
        stream = ChatChunks(IDENTITY, chat_body())
        found = self.chunks(stream.frames(LAST))
        assert [chunk.choices[0].finish_reason for chunk in found] == [None, None, "length"]
        assert stream.end() == b"data: [DONE]\n\n"

    def test_a_delta_that_shows_nothing_is_not_sent(self) -> None:
        stream = ChatChunks(IDENTITY, chat_body())
        stream.frames(delta(content="a"))
        assert stream.frames(delta(token_count=1)) == b""

    def test_line_ends_stay_inside_the_event(self) -> None:
        frames = ChatChunks(IDENTITY, chat_body()).frames(delta(content="a\n\ndata: [DONE]\r\n"))
        assert self.chunks(frames)[1].choices[0].delta.content == "a\n\ndata: [DONE]\r\n"

    def test_an_unfinished_stream_has_no_end(self) -> None:
        with pytest.raises(AnswerError):
            ChatChunks(IDENTITY, chat_body()).end()


def test_offsets_go_on_over_chunks() -> None:
    body = parse(CompletionBody, b'{"model": "m", "prompt": "p", "logprobs": 0}')
    stream = CompletionChunks(IDENTITY, body, 1)
    offsets = []
    for token in ("ab", "c"):
        logprobs = [chat_pb2.TokenLogprob(token=token, logprob=-1)]
        frames = stream.frames(
            chat_pb2.CompleteResponse(deltas=[chat_pb2.CompleteDelta(text=token, logprobs=logprobs)])
        )
        offsets += json.loads(frames[6:])["choices"][0]["logprobs"]["text_offset"]
    assert offsets == [0, 2]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (("messages", 0, "content", "str"), "messages[0].content"),
        (("messages", 2, "content", "list[ContentPart]", 1, "type"), "messages[2].content[1].type"),
        (("stop", "constrained-str"), "stop"),
        ((), None),
    ],
)
def test_locations_read_as_openai_writes_them(location: tuple[int | str, ...], path: str | None) -> None:
    assert path_of(location) == path


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (RpcFault(grpc.StatusCode.UNAVAILABLE, Reason.MODEL_LOAD_FAILED, "x"), 503, "model_load_failed"),
        (RpcFault(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_GRAMMAR, "x"), 400, "invalid_grammar"),
        (RpcFault(grpc.StatusCode.UNAVAILABLE, "SOMETHING_NEW", "x"), 503, "replica_unreachable"),
        (RpcFault(grpc.StatusCode.UNKNOWN, "UNKNOWN", "x"), 500, "internal_error"),
        (RpcFault(grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", "x"), 400, "unsupported_value"),
    ],
)
def test_faults_become_errors(fault: RpcFault, status: int, code: str) -> None:
    error = error_of_fault(fault)
    assert (error.status, error.code) == (status, code)
    assert ("retry-after" in error.headers()) == (status == 503)


def test_every_reason_has_a_status_of_its_own() -> None:
    for reason in Reason:
        if reason not in (Reason.INTERNAL, Reason.REQUEST_NOT_FOUND):
            assert error_of_fault(RpcFault(grpc.StatusCode.UNKNOWN, reason, "x")).status != 500, reason
