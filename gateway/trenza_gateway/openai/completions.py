"""Completions: each prompt of a request becomes a proto; choices are numbered prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trenza.chat.v1 import chat_pb2

from trenza_gateway.openai.answers import FINISH_REASONS, Identity, Tally, finite, usage_object
from trenza_gateway.openai.encoding import DONE, event, json_bytes
from trenza_gateway.openai.errors import bad_request
from trenza_gateway.openai.options import generation_options, response_format
from trenza_gateway.openai.requests import CompletionBody

DEFAULT_MAX_TOKENS = 16
"""OpenAI's default on this endpoint."""

MAX_CHOICES_IN_ALL = 128


def completion_requests(body: CompletionBody) -> list[chat_pb2.CompleteRequest]:
    """The protos of a request, one for each prompt, without their contexts. Raises a 400 ApiError."""
    prompts = _prompts(body)
    if len(prompts) * body.choices > MAX_CHOICES_IN_ALL:
        raise bad_request(f"Prompts times 'n' must be at most {MAX_CHOICES_IN_ALL}.", param="n")
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    options = generation_options(body, max_tokens, body.logprobs)
    answer_format = response_format(body)
    requests = []
    for prompt in prompts:
        request = chat_pb2.CompleteRequest(options=options, echo=bool(body.echo), response_format=answer_format)
        if isinstance(prompt, str):
            request.text = prompt
        else:
            request.tokens.ids.extend(prompt)
        requests.append(request)
    return requests


def _prompts(body: CompletionBody) -> list[str | list[int]]:
    if isinstance(body.prompt, str):
        return [body.prompt]
    tokens = [token for token in body.prompt if isinstance(token, int)]
    return [tokens] if tokens else [prompt for prompt in body.prompt if not isinstance(prompt, int)]


class _Logprobs:
    """The probabilities of one choice in the completions' shape; offsets count characters from its beginning."""

    def __init__(self) -> None:
        self._offset = 0

    def object(self, tokens: Iterable[chat_pb2.TokenLogprob]) -> dict[str, Any]:
        shown: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for item in tokens:
            logprob = finite(item.logprob)
            shown["tokens"].append(item.token)
            shown["token_logprobs"].append(logprob)
            shown["top_logprobs"].append({top.token: finite(top.logprob) for top in item.top} | {item.token: logprob})
            shown["text_offset"].append(self._offset)
            self._offset += len(item.token)
        return shown


class CompletionAnswer:
    """Gathers a whole answer over all prompts."""

    def __init__(self, identity: Identity, body: CompletionBody, prompts: int) -> None:
        self._identity = identity
        self._choices_each = body.choices
        self._with_logprobs = body.logprobs is not None
        self._tally = Tally(body.choices, prompts)
        total = prompts * body.choices
        self._texts: list[list[str]] = [[] for _ in range(total)]
        self._logprobs: list[list[chat_pb2.TokenLogprob]] = [[] for _ in range(total)]
        self._finish_reasons: list[str | None] = [None] * total

    def add(self, message: chat_pb2.CompleteResponse, part: int = 0) -> None:
        """Takes in the next message about the prompt numbered `part`."""
        self._tally.message(message, part)
        for delta in message.deltas:
            if delta.choice >= self._choices_each:
                continue
            index = part * self._choices_each + delta.choice
            self._texts[index].append(delta.text)
            self._logprobs[index].extend(delta.logprobs)
            if delta.finish_reason:
                self._finish_reasons[index] = FINISH_REASONS.get(delta.finish_reason, "stop")
                self._tally.finished(index)

    def body(self) -> bytes:
        """The answer's JSON. Raises AnswerError when a replica ended before all was said."""
        self._tally.require_complete()
        return json_bytes(
            {
                "id": self._identity.id,
                "object": "text_completion",
                "created": self._identity.created_unix_s,
                "model": self._identity.model,
                "choices": [self._choice(index) for index in range(len(self._texts))],
                "usage": usage_object(self._tally.usage),
                "system_fingerprint": self._tally.fingerprint,
            }
        )

    def _choice(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "text": "".join(self._texts[index]),
            "logprobs": _Logprobs().object(self._logprobs[index]) if self._with_logprobs else None,
            "finish_reason": self._finish_reasons[index],
        }


class CompletionChunks:
    """Turns the replicas' messages into server-sent events."""

    def __init__(self, identity: Identity, body: CompletionBody, prompts: int) -> None:
        self._identity = identity
        self._choices_each = body.choices
        self._includes_usage = body.includes_usage
        self._with_logprobs = body.logprobs is not None
        self._tally = Tally(body.choices, prompts)
        self._logprobs = [_Logprobs() for _ in range(prompts * body.choices)]

    def frames(self, message: chat_pb2.CompleteResponse, part: int = 0) -> bytes:
        """The events of the next message about the prompt numbered `part`; empty where it shows nothing."""
        self._tally.message(message, part)
        return b"".join(self._frame(delta, part) for delta in message.deltas if delta.choice < self._choices_each)

    def end(self) -> bytes:
        """The events that end the stream. Raises AnswerError when a replica ended before all was said."""
        self._tally.require_complete()
        if not self._includes_usage:
            return DONE
        return event({**self._envelope(), "choices": [], "usage": usage_object(self._tally.usage)}) + DONE

    def _frame(self, delta: chat_pb2.CompleteDelta, part: int) -> bytes:
        index = part * self._choices_each + delta.choice
        shows_logprobs = self._with_logprobs and bool(delta.logprobs)
        if delta.finish_reason:
            self._tally.finished(index)
        elif not (delta.text or shows_logprobs):
            return b""
        choice = {
            "index": index,
            "text": delta.text,
            "logprobs": self._logprobs[index].object(delta.logprobs) if shows_logprobs else None,
            "finish_reason": FINISH_REASONS.get(delta.finish_reason, "stop") if delta.finish_reason else None,
        }
        chunk = {**self._envelope(), "choices": [choice]}
        if self._includes_usage:
            chunk["usage"] = None
        return event(chunk)

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": self._identity.id,
            "object": "text_completion",
            "created": self._identity.created_unix_s,
            "model": self._identity.model,
            "system_fingerprint": self._tally.fingerprint,
        }
