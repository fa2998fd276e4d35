"""Translates the chat API into requests of the llama engine and the engine's events back; pure, both ways."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from grpc import StatusCode
from trenza.chat.v1 import chat_pb2 as pb
from trenza.common.v1 import common_pb2
from trenza_llama import engine as llama
from trenza_runtime.errors import Reason, RpcFault

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
_FINISH_REASONS = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


Choices: TypeAlias = tuple[llama.GenerateRequest, ...]
"""One request's engine requests: one for each choice, differing in their seeds."""


def invalid(param: str, message: str, reason: str = Reason.INVALID_ARGUMENT) -> RpcFault:
    """The fault for a field whose value cannot be honoured; `details["param"]` names the field."""
    return RpcFault(StatusCode.INVALID_ARGUMENT, reason, message, {"param": param})


def chat_choices(request: pb.ChatRequest, defaults: Mapping[str, object]) -> Choices:
    """Engine requests for a conversation. `defaults` are the sampling defaults of the model's manifest.

    Raises `RpcFault` INVALID_ARGUMENT naming the field that cannot be honoured.
    """
    if not request.messages:
        raise invalid("messages", "At least one message is needed.")
    if request.tools and request.tool_choice.mode != pb.TOOL_CHOICE_MODE_NONE:
        raise invalid("tools", "This service does not call tools.", Reason.UNSUPPORTED)
    messages = tuple(_message(message, index) for index, message in enumerate(request.messages))
    prompt = llama.ChatPrompt(messages=messages)
    return _choices(prompt, request.options, request.response_format, defaults)


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


def count_request(request: pb.CountTokensRequest) -> llama.CountRequest:
    """The engine request that counts a conversation's tokens."""
    messages = tuple(_message(message, index) for index, message in enumerate(request.messages))
    return llama.CountRequest(llama.ChatPrompt(messages=messages))


def _message(message: pb.Message, index: int) -> llama.ChatMessage:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"messages[{index}].role", "A message needs a role.")
    texts = []
    for position, part in enumerate(message.content):
        if part.WhichOneof("part") != "text":
            raise invalid(f"messages[{index}].content[{position}]", "This model reads text only.", Reason.UNSUPPORTED)
        texts.append(part.text)
    calls = tuple(llama.ToolCall(call.id, call.name, call.arguments_json) for call in message.tool_calls)
    return llama.ChatMessage(
        role=role,
        content="".join(texts) if texts or not calls else None,  # templates ask whether there is content beside calls
        name=message.name or None,
        tool_calls=calls,
        tool_call_id=message.tool_call_id or None,
    )


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


class Answer:
    """Collects what the choices of one request used, and turns their events into response messages."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._finished: list[llama.Finished] = []

    def chat_response(self, events: Iterable[tuple[int, object]]) -> pb.ChatResponse | None:
        """The next message of a conversation's answer; None where the events have nothing to tell the client."""
        deltas = [self._chat_delta(choice, event) for choice, event in events]
        told = [delta for delta in deltas if delta is not None]
        return pb.ChatResponse(deltas=told, fingerprint=self._take_fingerprint()) if told else None

    def complete_response(self, events: Iterable[tuple[int, object]]) -> pb.CompleteResponse | None:
        """The next message of a continuation; None where the events have nothing to tell the client."""
        told = []
        for choice, event in events:
            delta = self._chat_delta(choice, event)
            if delta is not None:
                told.append(
                    pb.CompleteDelta(
                        choice=choice,
                        text=delta.content,
                        logprobs=delta.logprobs,
                        finish_reason=delta.finish_reason,
                        stop_text=delta.stop_text,
                        token_count=delta.token_count,
                    )
                )
        return pb.CompleteResponse(deltas=told, fingerprint=self._take_fingerprint()) if told else None

    def usage(self) -> common_pb2.TokenUsage:
        """What all choices used together. They share one prompt, which counts once, as in OpenAI's API."""
        return common_pb2.TokenUsage(
            prompt_tokens=max((f.prompt_tokens for f in self._finished), default=0),
            cached_tokens=min((f.cached_tokens for f in self._finished), default=0),
            completion_tokens=sum(f.completion_tokens for f in self._finished),
        )

    def timings(self, queue_s: float) -> common_pb2.Timings:
        """Where the slowest choice's time went; `queue_s` is the wait for a place in front of the engine."""
        slowest = max((f.timings for f in self._finished), key=lambda t: t.prefill_s + t.decode_s, default=None)
        if slowest is None:
            return common_pb2.Timings(queue_s=queue_s)
        return common_pb2.Timings(
            queue_s=queue_s + slowest.queue_s, prefill_s=slowest.prefill_s, decode_s=slowest.decode_s
        )

    def _take_fingerprint(self) -> str:
        taken, self._fingerprint = self._fingerprint, ""
        return taken

    def _chat_delta(self, choice: int, event: object) -> pb.ChatDelta | None:
        match event:
            case llama.Delta():
                return pb.ChatDelta(
                    choice=choice,
                    content=event.text,
                    logprobs=_logprobs(event.logprobs),
                    token_count=event.token_count,
                )
            case llama.Finished():
                self._finished.append(event)
                return pb.ChatDelta(
                    choice=choice,
                    finish_reason=_FINISH_REASONS[event.finish_reason],
                    stop_text=event.stop_sequence or "",
                )
            case _:
                return None


def _logprobs(logprobs: Sequence[llama.TokenLogprob]) -> list[pb.TokenLogprob]:
    return [
        pb.TokenLogprob(
            token=one.text.decode("utf-8", "replace"),
            token_bytes=one.text,
            logprob=one.logprob,
            token_id=one.token,
            top=[
                pb.TopLogprob(
                    token=top.text.decode("utf-8", "replace"),
                    token_bytes=top.text,
                    logprob=top.logprob,
                    token_id=top.token,
                )
                for top in one.top
            ],
        )
        for one in logprobs
    ]
