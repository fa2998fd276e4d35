"""Chat's protos and the engine's requests, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from trenza.chat.v1 import chat_pb2 as pb
from trenza_llama import engine as llama
from trenza_llama.api import requests
from trenza_llama.api.answers import Answer
from trenza_runtime.errors import RpcFault

TIMINGS = llama.Timings(0.5, 1.0, 2.0)


def request(**fields: Any) -> pb.ChatRequest:
    message = pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(text="Hel"), pb.ContentPart(text="lo")])
    return pb.ChatRequest(**{"messages": [message], **fields})


def test_a_conversation_becomes_a_prompt() -> None:
    (made,) = requests.chat_choices(
        pb.ChatRequest(
            messages=[
                pb.Message(role=pb.ROLE_SYSTEM, content=[pb.ContentPart(text="Be brief.")]),
                pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="1", name="f", arguments_json="{}")]),
                pb.Message(role=pb.ROLE_TOOL, tool_call_id="1", content=[pb.ContentPart(text="42")]),
            ]
        ),
        {},
    )
    assert isinstance(made.prompt, llama.ChatPrompt)
    assert [message.role for message in made.prompt.messages] == ["system", "assistant", "tool"]
    assert made.prompt.messages[1].tool_calls == (llama.ToolCall("1", "f", "{}"),)
    assert made.prompt.messages[2].tool_call_id == "1"


def test_text_parts_are_joined() -> None:
    (made,) = requests.chat_choices(request(), {})
    assert isinstance(made.prompt, llama.ChatPrompt)
    assert made.prompt.messages[0].content == "Hello"


def test_pictures_stand_where_they_are_shown_for_models_that_see() -> None:
    red, blue = llama.Picture.of(1, 1, b"\xff\0\0"), llama.Picture.of(1, 1, b"\0\0\xff")
    image = pb.ContentPart(image=pb.ImagePart(data=b"file"))
    asked = request(
        messages=[
            pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(text="See"), image, pb.ContentPart(text="!")]),
            pb.Message(role=pb.ROLE_ASSISTANT, content=[pb.ContentPart(text="A "), pb.ContentPart(text="dot.")]),
            pb.Message(role=pb.ROLE_USER, content=[image]),
        ]
    )
    (made,) = requests.chat_choices(asked, {}, [red, blue])
    assert isinstance(made.prompt, llama.ChatPrompt)
    assert [message.content for message in made.prompt.messages] == [("See", red, "!"), "A dot.", (blue,)]
    assert requests.count_request(asked.messages, [red, blue]).prompt == made.prompt
    with pytest.raises(RpcFault):
        requests.count_request(asked.messages)


def test_sampling_comes_from_request_then_model_then_server() -> None:
    options = pb.GenerationOptions(temperature=0.25, top_p=0)
    (made,) = requests.chat_choices(request(options=options), {"temperature": 1.5, "top_k": 7, "colour": "red"})
    assert made.sampling.temperature == 0.25
    assert made.sampling.top_k == 7
    assert made.sampling.min_p == pytest.approx(requests.SERVER_DEFAULTS.min_p)
    assert 0 < made.sampling.top_p < 0.001


def test_choices_differ_in_their_seeds_only() -> None:
    made = requests.chat_choices(request(options=pb.GenerationOptions(choices=3, seed=41)), {})
    assert [one.sampling.seed for one in made] == [41, 42, 43]
    again = requests.chat_choices(request(options=pb.GenerationOptions(choices=3)), {})
    assert len({one.sampling.seed for one in again}) == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [pb.Message(content=[pb.ContentPart(text="x")])]}, "messages[0].role"),
        (
            {"messages": [pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(image=pb.ImagePart(data=b"x"))])]},
            "messages[0].content[0]",
        ),
        ({"tools": [pb.Tool(name="f")]}, "tools"),
        ({"options": pb.GenerationOptions(choices=17)}, "n"),
        ({"options": pb.GenerationOptions(stop=["x"] * 17)}, "stop"),
        ({"options": pb.GenerationOptions(stop=[""])}, "stop"),
        ({"options": pb.GenerationOptions(top_logprobs=21)}, "top_logprobs"),
        ({"options": pb.GenerationOptions(max_tokens=0)}, "max_tokens"),
        ({"options": pb.GenerationOptions(temperature=2.5)}, "temperature"),
        ({"options": pb.GenerationOptions(temperature=float("nan"))}, "temperature"),
        ({"options": pb.GenerationOptions(presence_penalty=-3)}, "presence_penalty"),
        ({"options": pb.GenerationOptions(logit_bias={1: 101})}, "logit_bias"),
    ],
)
def test_what_cannot_be_honoured_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RpcFault) as caught:
        requests.chat_choices(request(**fields), {})
    assert caught.value.details == {"param": param}
    assert caught.value.code.name == "INVALID_ARGUMENT"


def test_tools_that_are_not_to_be_called_do_no_harm() -> None:
    tools = [pb.Tool(name="f")]
    assert requests.chat_choices(request(tools=tools, tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)), {})


@pytest.mark.parametrize(
    ("response_format", "grammar"),
    [
        (pb.ResponseFormat(), None),
        (pb.ResponseFormat(text=pb.TextFormat()), None),
        (pb.ResponseFormat(json_object=pb.JsonObjectFormat()), llama.JsonObjectGrammar()),
        (pb.ResponseFormat(json_schema=pb.JsonSchemaFormat(schema="{}")), llama.JsonSchemaGrammar("{}")),
        (pb.ResponseFormat(grammar=pb.GrammarFormat(gbnf="root ::= [a]")), llama.GbnfGrammar("root ::= [a]")),
    ],
)
def test_response_formats_become_grammars(response_format: pb.ResponseFormat, grammar: llama.Grammar | None) -> None:
    (made,) = requests.chat_choices(request(response_format=response_format), {})
    assert made.grammar == grammar


def test_a_text_or_tokens_to_continue() -> None:
    (text,) = requests.complete_choices(pb.CompleteRequest(text="Once", echo=True), {})
    assert text.prompt == llama.TextPrompt("Once")
    assert text.echo
    (tokens,) = requests.complete_choices(pb.CompleteRequest(tokens=pb.TokenIds(ids=[3, 4])), {})
    assert tokens.prompt == llama.TokenPrompt((3, 4))
    with pytest.raises(RpcFault):
        requests.complete_choices(pb.CompleteRequest(text="x", suffix="y"), {})


def test_events_become_messages_and_usage_counts_the_prompt_once() -> None:
    answer = Answer("fp_1")
    assert answer.chat_response([(0, llama.Started(9, 4)), (1, llama.Started(9, 9))]) is None
    logprob = llama.TokenLogprob(5, -0.5, b"\xc3", (llama.TokenAlternative(6, -1.0, b"a"),))
    first = answer.chat_response([(0, llama.Delta("Hi", 2, (logprob,)))])
    assert first is not None
    assert (first.fingerprint, first.deltas[0].content, first.deltas[0].token_count) == ("fp_1", "Hi", 2)
    assert first.deltas[0].logprobs[0].token == "\ufffd"
    assert first.deltas[0].logprobs[0].top[0].token_bytes == b"a"
    ends = [
        (0, llama.Finished("stop", 9, 4, 2, "END", TIMINGS)),
        (1, llama.Finished("length", 9, 9, 3, None, TIMINGS)),
    ]
    last = answer.chat_response(ends)
    assert last is not None
    assert not last.fingerprint
    assert [delta.finish_reason for delta in last.deltas] == [pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH]
    assert [delta.stop_text for delta in last.deltas] == ["END", ""]
    usage = answer.usage()
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (9, 4, 5)
    assert usage.image_tokens == 0
    assert answer.chat_response([(0, llama.Started(9, 4, 3)), (0, llama.Encoding(1, 2))]) is None
    assert answer.usage().image_tokens == 3
    assert answer.timings(0.25).queue_s == pytest.approx(0.75)
