"""Chat completions: OpenAI's request as a proto, and the replica's messages as OpenAI's answer, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from trenza.chat.v1 import chat_pb2

from trenza_gateway.openai.answers import FINISH_REASONS, Identity, Tally, finite, usage_object
from trenza_gateway.openai.encoding import DONE, event, json_bytes
from trenza_gateway.openai.errors import bad_request
from trenza_gateway.openai.options import generation_options, response_format
from trenza_gateway.openai.requests import ChatBody, ChatMessage, ContentPart, ImageUrl

_ROLES = {
    "system": chat_pb2.ROLE_SYSTEM,
    "developer": chat_pb2.ROLE_SYSTEM,
    "user": chat_pb2.ROLE_USER,
    "assistant": chat_pb2.ROLE_ASSISTANT,
    "tool": chat_pb2.ROLE_TOOL,
}


_DETAILS = {
    None: chat_pb2.IMAGE_DETAIL_UNSPECIFIED,
    "auto": chat_pb2.IMAGE_DETAIL_AUTO,
    "low": chat_pb2.IMAGE_DETAIL_LOW,
    "high": chat_pb2.IMAGE_DETAIL_HIGH,
    "original": chat_pb2.IMAGE_DETAIL_HIGH,
}


def shown_pictures(body: ChatBody) -> Iterator[tuple[str, ImageUrl]]:
    """The pictures of a conversation and the fields that show them, in order. Raises a 400 ApiError where one is wrong."""
    for index, message in enumerate(body.messages):
        for position, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if part.type == "image_url":
                path = f"messages[{index}].content[{position}]"
                if message.role != "user":
                    raise bad_request("Only a user's message may show pictures.", param=path)
                if part.image_url is None:
                    raise bad_request(f"Missing required field: '{path}.image_url'.", param=f"{path}.image_url")
                yield path, part.image_url


def chat_request(body: ChatBody, numbers: Iterable[int] = ()) -> chat_pb2.ChatRequest:
    """The proto of a request, without its context. Raises a 400 ApiError for what the models here cannot honour.

    `numbers` are those under which its pictures are uploaded, in the order of `shown_pictures`.
    """
    left = iter(numbers)
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return chat_pb2.ChatRequest(
        messages=[_message(message, f"messages[{index}]", left) for index, message in enumerate(body.messages)],
        options=generation_options(body, max_tokens, _top_logprobs(body)),
        response_format=response_format(body),
    )


def _top_logprobs(body: ChatBody) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise bad_request("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    return None


def _message(said: ChatMessage, path: str, numbers: Iterator[int]) -> chat_pb2.Message:
    message = chat_pb2.Message(
        role=_ROLES[said.role],
        name=said.name or "",
        refusal=said.refusal or "",
        reasoning=said.reasoning_content or "",
        tool_call_id=said.tool_call_id or "",
        tool_calls=[
            chat_pb2.ToolCall(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
            for call in said.tool_calls or ()
        ],
    )
    if said.role == "tool" and not said.tool_call_id:
        raise bad_request(f"Missing required field: '{path}.tool_call_id'.", param=f"{path}.tool_call_id")
    if said.tool_calls and said.role != "assistant":
        raise bad_request("Only an assistant's message may have 'tool_calls'.", param=f"{path}.tool_calls")
    _add_content(message, said, f"{path}.content", numbers)
    return message


def _add_content(message: chat_pb2.Message, said: ChatMessage, path: str, numbers: Iterator[int]) -> None:
    """Puts what is said into the message: texts joined into one part, refusals into theirs.

    Where there are pictures, every part stays a part, so that what is said about one later can name it.
    """
    if said.content is None:
        if said.role != "assistant" or not (said.tool_calls or said.refusal):
            raise bad_request(f"Invalid value for '{path}': it must be a string or a list of parts.", param=path)
        return
    texts = [said.content] if isinstance(said.content, str) else []
    parts = [] if isinstance(said.content, str) else said.content
    if any(part.type == "image_url" for part in parts):
        message.content.extend(_part(part, f"{path}[{index}]", numbers) for index, part in enumerate(parts))
        return
    for index, part in enumerate(parts):
        if part.type == "refusal" and said.role == "assistant" and part.refusal is not None:
            message.refusal += part.refusal
        else:
            texts.append(_text_of(part, f"{path}[{index}]"))
    message.content.add(text="".join(texts))


def _part(part: ContentPart, path: str, numbers: Iterator[int]) -> chat_pb2.ContentPart:
    if part.image_url is None or part.type != "image_url":
        return chat_pb2.ContentPart(text=_text_of(part, path))
    picture = chat_pb2.ImagePart(upload_index=next(numbers), detail=_DETAILS[part.image_url.detail])
    return chat_pb2.ContentPart(image=picture)


def _text_of(part: ContentPart, path: str) -> str:
    if part.type != "text":
        raise bad_request(
            f"Invalid value for '{path}': the models served here take texts and pictures, not '{part.type}'.",
            param=path,
            code="unsupported_content",
        )
    if part.text is None:
        raise bad_request(f"Missing required field: '{path}.text'.", param=f"{path}.text")
    return part.text


def _logprobs(tokens: Any) -> dict[str, Any]:
    return {
        "content": [
            {
                "token": item.token,
                "logprob": finite(item.logprob),
                "bytes": list(item.token_bytes),
                "top_logprobs": [
                    {"token": top.token, "logprob": finite(top.logprob), "bytes": list(top.token_bytes)}
                    for top in item.top
                ],
            }
            for item in tokens
        ],
        "refusal": None,
    }


class ChatAnswer:
    """Gathers a whole answer."""

    def __init__(self, identity: Identity, body: ChatBody) -> None:
        self._identity = identity
        self._tally = Tally(body.choices)
        self._choices = [_WholeChoice(index, bool(body.logprobs)) for index in range(body.choices)]

    def add(self, message: chat_pb2.ChatResponse, part: int = 0) -> None:
        """Takes in the next message of the replica."""
        self._tally.message(message, part)
        for delta in message.deltas:
            if delta.choice < len(self._choices):
                self._choices[delta.choice].add(delta)
                if delta.finish_reason:
                    self._tally.finished(delta.choice)

    def body(self) -> bytes:
        """The answer's JSON. Raises AnswerError when the replica ended before all was said."""
        self._tally.require_complete()
        return json_bytes(
            {
                "id": self._identity.id,
                "object": "chat.completion",
                "created": self._identity.created_unix_s,
                "model": self._identity.model,
                "choices": [choice.object() for choice in self._choices],
                "usage": usage_object(self._tally.usage),
                "system_fingerprint": self._tally.fingerprint,
            }
        )

    def content(self, choice: int) -> str:
        """What a choice says. Raises AnswerError as `body` does."""
        self._tally.require_complete()
        return self._choices[choice].content


class _WholeChoice:
    """One choice as it grows."""

    def __init__(self, index: int, with_logprobs: bool) -> None:
        self._index = index
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._logprobs: list[chat_pb2.TokenLogprob] | None = [] if with_logprobs else None
        self._finish_reason: str | None = None

    def add(self, delta: chat_pb2.ChatDelta) -> None:
        self._content.append(delta.content)
        self._reasoning.append(delta.reasoning)
        self._refusal.append(delta.refusal)
        if self._logprobs is not None:
            self._logprobs.extend(delta.logprobs)
        if delta.finish_reason:
            self._finish_reason = FINISH_REASONS.get(delta.finish_reason, "stop")

    @property
    def content(self) -> str:
        return "".join(self._content)

    def object(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.content,
            "refusal": "".join(self._refusal) or None,
        }
        if any(self._reasoning):
            message["reasoning_content"] = "".join(self._reasoning)
        return {
            "index": self._index,
            "message": message,
            "logprobs": None if self._logprobs is None else _logprobs(self._logprobs),
            "finish_reason": self._finish_reason,
        }


class ChatChunks:
    """Turns the replica's messages into server-sent events; what became ready together goes into one write."""

    def __init__(self, identity: Identity, body: ChatBody) -> None:
        self._identity = identity
        self._tally = Tally(body.choices)
        self._choices = body.choices
        self._includes_usage = body.includes_usage
        self._with_logprobs = bool(body.logprobs)
        self._begun: set[int] = set()

    def frames(self, message: chat_pb2.ChatResponse, part: int = 0) -> bytes:
        """The events of the next message; empty where it shows nothing."""
        self._tally.message(message, part)
        return b"".join(self._delta_frames(delta) for delta in message.deltas if delta.choice < self._choices)

    def end(self) -> bytes:
        """The events that end the stream. Raises AnswerError when the replica ended before all was said."""
        self._tally.require_complete()
        if not self._includes_usage:
            return DONE
        return event({**self._envelope(), "choices": [], "usage": usage_object(self._tally.usage)}) + DONE

    def _delta_frames(self, delta: chat_pb2.ChatDelta) -> bytes:
        frames = b""
        if delta.choice not in self._begun:
            self._begun.add(delta.choice)
            frames += self._frame(delta.choice, {"role": "assistant", "content": "", "refusal": None})
        said: dict[str, Any] = {}
        if delta.content or (self._with_logprobs and delta.logprobs):
            said["content"] = delta.content
        if delta.reasoning:
            said["reasoning_content"] = delta.reasoning
        if delta.refusal:
            said["refusal"] = delta.refusal
        if said:
            logprobs = _logprobs(delta.logprobs) if self._with_logprobs else None
            frames += self._frame(delta.choice, said, logprobs)
        if delta.finish_reason:
            self._tally.finished(delta.choice)
            frames += self._frame(delta.choice, {}, finish_reason=FINISH_REASONS.get(delta.finish_reason, "stop"))
        return frames

    def _frame(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = {**self._envelope(), "choices": [choice]}
        if self._includes_usage:
            chunk["usage"] = None
        return event(chunk)

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": self._identity.id,
            "object": "chat.completion.chunk",
            "created": self._identity.created_unix_s,
            "model": self._identity.model,
            "system_fingerprint": self._tally.fingerprint,
        }
