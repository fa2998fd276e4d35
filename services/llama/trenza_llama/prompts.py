"""Turns prompts into tokens so that only the template's control tokens count as such, never those in people's text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trenza_llama.device import Vocabulary
from trenza_llama.engine import ChatMessage, ChatPrompt, Prompt, TextPrompt, TokenPrompt, ToolCall
from trenza_llama.template import ChatTemplate, TemplateError

_MARKS_START = 0xF0000
"""Where Unicode's supplementary private-use area begins; marks are characters of it, which no template alters."""


_COUNTABLE_TEXT_BYTES = 256 * 1024
"""Texts up to this length are tokenised even if they cannot fit, so that the refusal tells how many tokens they have."""

_MAX_TEXT_BYTES = 16 * 2**20


class PromptError(ValueError):
    """The prompt cannot be used; `reason` is machine-readable, `details` are figures."""

    def __init__(self, message: str, reason: str = "INVALID_PROMPT", details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details or {}


class PromptEncoder:
    """Encodes prompts for one model."""

    def __init__(self, vocabulary: Vocabulary, template: ChatTemplate, context_length: int) -> None:
        self._vocabulary = vocabulary
        self._template = template
        controls = sorted((text for text in vocabulary.control_texts if text), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls))) if controls else None
        # A text longer than this cannot fit whatever its tokens are; tokenising it would only hold up the others.
        fitting = (context_length + 1) * vocabulary.longest_token_bytes
        self._max_bytes = min(max(fitting, _COUNTABLE_TEXT_BYTES), _MAX_TEXT_BYTES)
        self._context_length = context_length

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, at least one. Raises PromptError."""
        match prompt:
            case ChatPrompt():
                try:
                    tokens = self._with_bos(self._chat(prompt))
                except RecursionError as error:
                    raise PromptError("the conversation's tools or tool calls are nested too deeply") from error
            case TextPrompt():
                tokens = self._with_bos(self.tokenize(prompt.text, prompt.parse_special))
            case TokenPrompt():
                tokens = self._checked(prompt.tokens)
        if not tokens:
            raise PromptError("the prompt is empty")
        return tokens

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        """The tokens of a text. Raises PromptError when it is no valid Unicode or far too long."""
        try:
            byte_count = len(text.encode())
        except UnicodeEncodeError as error:
            raise PromptError("the prompt contains a lone surrogate, which is not valid Unicode") from error
        if byte_count > self._max_bytes:
            raise PromptError(
                f"the prompt has {byte_count} bytes, more than {self._context_length} tokens can hold",
                "CONTEXT_LENGTH_EXCEEDED",
                {"prompt_bytes": str(byte_count), "limit": str(self._context_length)},
            )
        return self._vocabulary.tokenize(text, parse_special)

    def _with_bos(self, tokens: list[int]) -> list[int]:
        bos = self._vocabulary.bos
        if bos is None or (tokens and tokens[0] == bos):
            return tokens
        return [bos, *tokens]

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._vocabulary.size:
                raise PromptError(f"token {token} is not in the vocabulary of {self._vocabulary.size} tokens")
        return list(tokens)

    def _chat(self, prompt: ChatPrompt) -> list[int]:
        tools = _parsed_tools(prompt.tools_json)
        messages = [_message_for_template(message) for message in prompt.messages]
        conversation = [messages, tools, prompt.template_arguments]
        marks = self._marks_for(conversation)
        messages, tools, arguments = _replaced(conversation, marks)
        try:
            text = self._template.render(messages, tools, arguments, prompt.add_generation_prompt)
        except TemplateError as error:
            raise PromptError(_restored(str(error), marks)) from error
        return self._tokenize_marked(text, marks)

    def _marks_for(self, conversation: Any) -> dict[str, str]:
        """A private-use character for each control token written out in the conversation; usually there is none."""
        if self._controls is None:
            return {}
        texts = list(_strings(conversation))
        found = sorted({match for text in texts for match in self._controls.findall(text)})
        taken = {char for text in texts for char in text if ord(char) >= _MARKS_START} if found else set()
        free = (chr(code) for code in range(_MARKS_START, 0x10FFFE) if chr(code) not in taken)
        return dict(zip(found, free, strict=False))

    def _tokenize_marked(self, text: str, marks: Mapping[str, str]) -> list[int]:
        """Tokenises rendered text; what a mark stands for is written out there as ordinary text."""
        if not marks:
            return self.tokenize(text, parse_special=True)
        literal = {mark: control for control, mark in marks.items()}
        parts = re.split(f"([{''.join(literal)}])", text)
        tokens: list[int] = []
        for part in parts:
            if part in literal:
                tokens += self.tokenize(literal[part], parse_special=False)
            elif part:
                tokens += self.tokenize(part, parse_special=True)
        return tokens


def _parsed_tools(tools_json: str | None) -> list[Any] | None:
    if tools_json is None:
        return None
    try:
        tools = json.loads(tools_json)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"the tools are not valid JSON: {error}") from error
    if not isinstance(tools, list):
        raise PromptError("the tools must be a JSON list")
    return tools or None


def _message_for_template(message: ChatMessage) -> dict[str, Any]:
    content = message.content if message.content is not None or message.tool_calls else ""
    shaped: dict[str, Any] = {"role": message.role, "content": content}
    if message.name is not None:
        shaped["name"] = message.name
    if message.tool_call_id is not None:
        shaped["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        shaped["tool_calls"] = [_call_for_template(call) for call in message.tool_calls]
    return shaped


def _call_for_template(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _arguments(call.arguments)},
    }


def _arguments(text: str) -> Any:
    """Templates expect the arguments as an object; what a model once wrote may be anything."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _strings(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in value.items():
                yield from _strings(key)
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)


def _replaced(value: Any, marks: Mapping[str, str]) -> Any:
    if not marks:
        return value
    controls = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))

    def walk(value: Any) -> Any:
        match value:
            case str():
                return controls.sub(lambda found: marks[found.group()], value)
            case Mapping():
                return {walk(key): walk(item) for key, item in value.items()}
            case list():
                return [walk(item) for item in value]
        return value

    return walk(value)


def _restored(text: str, marks: Mapping[str, str]) -> str:
    for control, mark in marks.items():
        text = text.replace(mark, control)
    return text
