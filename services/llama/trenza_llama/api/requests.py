"""Translates conversations and texts of the chat API into requests of the engine; pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from grpc import StatusCode
from trenza.chat.v1 import chat_pb2 as pb
from trenza_runtime.errors import Reason, RpcFault

from trenza_llama import engine as llama

MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20

# What llama.cpp's own programs use where neither the request nor the model's manifest says anything.
SERVER_DEFAULTS = llama.Sampling(temperature=0.8, top_p=0.95, top_k=40, min_p=0.05)

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}


Choices: TypeAlias = tuple[llama.GenerateRequest, ...]
"""One request's engine requests: one for each choice, differing in their seeds."""


def invalid(param: str, message: str, reason: str = Reason.INVALID_ARGUMENT) -> RpcFault:
    """The fault for a field whose value cannot be honoured; `details["param"]` names the field."""
    return RpcFault(StatusCode.INVALID_ARGUMENT, reason, message, {"param": param})


def chat_choices(
    request: pb.ChatRequest, defaults: Mapping[str, object], pictures: Sequence[llama.Picture] | None = None
) -> Choices:
    """Engine requests for a conversation. `defaults` are the sampling defaults of the model's manifest.

    `pictures` are those of the conversation's image parts, one for each in their order; None says that the model reads text only.
    Raises `RpcFault` INVALID_ARGUMENT naming the field that cannot be honoured.
    """
    if not request.messages:
        raise invalid("messages", "At least one message is needed.")
    if request.tools and request.tool_choice.mode != pb.TOOL_CHOICE_MODE_NONE:
        raise invalid("tools", "This service does not call tools.", Reason.UNSUPPORTED)
    return _choices(_prompt(request.messages, pictures), request.options, request.response_format, defaults)


def complete_choices(request: pb.CompleteRequest, defaults: Mapping[str, object]) -> Choices:
    """Engine requests for a text to continue. Raises as `chat_choices` does."""
    if request.suffix:
        raise invalid("suffix", "This service does not fill gaps in a text.", Reason.UNSUPPORTED)
    prompt: llama.TextPrompt | llama.TokenPrompt
    if request.WhichOneof("prompt") == "tokens":
        prompt = llama.TokenPrompt(tuple(request.tokens.ids))
    else:
        prompt = llama.TextPrompt(request.text)
    return _choices(prompt, request.options, request.response_format, defaults, echo=request.echo)


def count_request(
    messages: Iterable[pb.Message], pictures: Sequence[llama.Picture] | None = None
) -> llama.CountRequest:
    """The engine request that counts a conversation's tokens; `pictures` as for `chat_choices`, and raises as that does."""
    return llama.CountRequest(_prompt(messages, pictures))


def _prompt(messages: Iterable[pb.Message], pictures: Sequence[llama.Picture] | None) -> llama.ChatPrompt:
    shown = None if pictures is None else iter(pictures)
    return llama.ChatPrompt(messages=tuple(_message(message, index, shown) for index, message in enumerate(messages)))


def _message(message: pb.Message, index: int, pictures: Iterator[llama.Picture] | None) -> llama.ChatMessage:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"messages[{index}].role", "A message needs a role.")
    parts: list[str | llama.Picture] = []
    for position, part in enumerate(message.content):
        match part.WhichOneof("part"):
            case "text":
                parts.append(part.text)
            case "image" if pictures is not None:
                parts.append(next(pictures))
            case _:
                readable = "text only" if pictures is None else "text and pictures only"
                param = f"messages[{index}].content[{position}]"
                raise invalid(param, f"This model reads {readable}.", Reason.UNSUPPORTED)
    calls = tuple(llama.ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls)
    return llama.ChatMessage(
        role=role,
        content=_content(parts) if parts or not calls else None,  # templates ask whether there is content beside calls
        name=message.name or None,
        tool_calls=calls,
        tool_call_id=message.tool_call_id or None,
    )


def _content(parts: Sequence[str | llama.Picture]) -> str | tuple[str | llama.Picture, ...]:
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else tuple(parts)


def _choices(
    prompt: llama.ChatPrompt | llama.TextPrompt | llama.TokenPrompt,
    options: pb.GenerationOptions,
    response_format: pb.ResponseFormat,
    defaults: Mapping[str, object],
    echo: bool = False,
) -> Choices:
    count = options.choices or 1
    if count > MAX_CHOICES:
        raise invalid("n", f"At most {MAX_CHOICES} choices can be asked for.")
    if len(options.stop) > llama.MAX_STOPS:
        raise invalid("stop", f"At most {llama.MAX_STOPS} stop texts can be given.")
    if options.top_logprobs > MAX_TOP_LOGPROBS:
        raise invalid("top_logprobs", f"At most {MAX_TOP_LOGPROBS} alternatives can be reported.")
    if options.HasField("max_tokens") and options.max_tokens == 0 and not echo:
        raise invalid("max_tokens", "At least one token has to be generated.")
    if any(not 0 < len(text) <= llama.MAX_STOP_CHARS for text in options.stop):
        raise invalid("stop", f"A stop text has between 1 and {llama.MAX_STOP_CHARS} characters.")
    sampling = _sampling(options, defaults)
    request = llama.GenerateRequest(
        prompt=prompt,
        sampling=sampling,
        max_tokens=options.max_tokens if options.HasField("max_tokens") else None,
        stop=tuple(options.stop),
        ignore_eos=options.ignore_end,
        top_logprobs=options.top_logprobs if options.HasField("top_logprobs") else None,
        grammar=_grammar(response_format),
        echo=echo,
    )
    # Choices of one request must differ, yet come out the same again under the same seed.
    base = sampling.seed if sampling.seed is not None else secrets.randbits(31)
    seeds = ((base + index) & 0xFFFFFFFF for index in range(count))
    return tuple(replace(request, sampling=replace(sampling, seed=seed)) for seed in seeds)


def _sampling(options: pb.GenerationOptions, defaults: Mapping[str, object]) -> llama.Sampling:
    known = {name: value for name, value in defaults.items() if name in _SAMPLING_RANGES}
    given = {field.name: value for field, value in options.ListFields() if field.name in _SAMPLING_RANGES}
    for name, value in given.items():
        low, high = _SAMPLING_RANGES[name]
        if not low <= value <= high:
            raise invalid(name, f"{name} must be between {low:g} and {high:g}.")
    if len(options.logit_bias) > llama.MAX_LOGIT_BIASES:
        raise invalid("logit_bias", f"At most {llama.MAX_LOGIT_BIASES} tokens can be biased.")
    for token, bias in options.logit_bias.items():
        if not -100 <= bias <= 100:
            raise invalid("logit_bias", f"The bias of token {token} must be between -100 and 100.")
    values = {**known, **given}
    if values.get("top_p") == 0:
        values["top_p"] = 1e-6  # OpenAI allows 0, the engine does not: both leave the likeliest token only
    return replace(
        SERVER_DEFAULTS,
        **values,
        seed=options.seed & 0xFFFFFFFF if options.HasField("seed") else None,
        logit_bias=tuple(sorted(options.logit_bias.items())),
    )


_SAMPLING_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 1_000_000),
    "min_p": (0, 1),
    "repeat_penalty": (0.01, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}


def _grammar(response_format: pb.ResponseFormat) -> llama.Grammar | None:
    match response_format.WhichOneof("format"):
        case "json_object":
            return llama.JsonObjectGrammar()
        case "json_schema":
            schema = response_format.json_schema
            return llama.JsonSchemaGrammar(schema.schema, strict=schema.strict)
        case "grammar":
            return llama.GbnfGrammar(response_format.grammar.gbnf)
        case _:
            return None
