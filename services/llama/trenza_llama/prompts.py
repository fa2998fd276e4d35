"""Turns prompts into tokens so that only the template's control tokens count as such, never those in people's text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trenza_llama.core.pictures import PictureRun, stand_ins
from trenza_llama.device import PictureError, PictureLayout, PicturePart, Projector, Vocabulary
from trenza_llama.engine import (
    MAX_PICTURES,
    ChatMessage,
    ChatPrompt,
    Picture,
    Prompt,
    TextPrompt,
    TokenPrompt,
    ToolCall,
)
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


@dataclass(slots=True)
class EncodedPrompt:
    """A prompt's tokens; `runs` of them stand for parts of the `pictures`, which are found by their keys."""

    tokens: list[int] = field(default_factory=list)
    runs: list[PictureRun] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)

    @property
    def image_tokens(self) -> int:
        """How many of the tokens stand for pictures."""
        return sum(run.count for run in self.runs)

    @property
    def text_tokens(self) -> list[int]:
        """The tokens of text."""
        return [token for token in self.tokens if token >= 0] if self.runs else self.tokens

    def part_count(self, key: str) -> int:
        """In how many parts a picture is encoded."""
        return 1 + max(run.part for run in self.runs if run.key == key)

    def add_picture(self, picture: Picture, layout: PictureLayout) -> None:
        """Appends a picture."""
        part = 0
        for piece in layout:
            if isinstance(piece, PicturePart):
                start = len(self.tokens)
                self.runs.append(PictureRun(start, piece.count, piece.positions, piece.whole, picture.key, part))
                self.tokens += stand_ins(picture.key, part, piece.count)
                part += 1
            else:
                self.tokens += piece
        self.pictures[picture.key] = picture

    def begin_with(self, token: int) -> None:
        """Puts a token first if it is not there yet."""
        if self.tokens[:1] != [token]:
            self.tokens.insert(0, token)
            self.runs = [replace(run, start=run.start + 1) for run in self.runs]


class PromptEncoder:
    """Encodes prompts for one model; pictures need a `projector`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        context_length: int,
        projector: Projector | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._projector = projector
        controls = sorted((text for text in vocabulary.control_texts if text), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls))) if controls else None
        # A text longer than this cannot fit whatever its tokens are; tokenising it would only hold up the others.
        fitting = (context_length + 1) * vocabulary.longest_token_bytes
        self._max_bytes = min(max(fitting, _COUNTABLE_TEXT_BYTES), _MAX_TEXT_BYTES)
        self._context_length = context_length

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, at least one. Raises PromptError."""
        return self.encode_with_pictures(prompt).tokens

    def encode_with_pictures(self, prompt: Prompt) -> EncodedPrompt:
        """The prompt's tokens, at least one, and what they say of pictures. Raises PromptError."""
        match prompt:
            case ChatPrompt():
                try:
                    encoded = self._chat(prompt)
                except RecursionError as error:
                    raise PromptError("the conversation's tools or tool calls are nested too deeply") from error
            case TextPrompt():
                encoded = EncodedPrompt(self.tokenize(prompt.text, prompt.parse_special))
            case TokenPrompt():
                encoded = EncodedPrompt(self._checked(prompt.tokens))
        if self._vocabulary.bos is not None and not isinstance(prompt, TokenPrompt):
            encoded.begin_with(self._vocabulary.bos)
        if not encoded.tokens:
            raise PromptError("the prompt is empty")
        return encoded

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

    def _checked(self, tokens: Sequence[int]) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._vocabulary.size:
                raise PromptError(f"token {token} is not in the vocabulary of {self._vocabulary.size} tokens")
        return list(tokens)

    def _chat(self, prompt: ChatPrompt) -> EncodedPrompt:
        tools = _parsed_tools(prompt.tools_json)
        conversation = [
            [_message_for_template(message) for message in prompt.messages],
            tools,
            prompt.template_arguments,
        ]
        pictures = self._layouts(prompt.messages)
        marks = self._marks_for(conversation, len(pictures))
        messages, tools, arguments = _replaced(conversation, marks)
        for message in messages:
            message["content"] = _content(message["content"], self._template.wants_parts)
        try:
            text = self._template.render(messages, tools, arguments, prompt.add_generation_prompt)
        except TemplateError as error:
            raise PromptError(marks.restored(str(error))) from error
        return self._tokenize_marked(text, marks, pictures)

    def _layouts(self, messages: Sequence[ChatMessage]) -> list[tuple[Picture, PictureLayout]]:
        """The conversation's pictures in their order, with what they are in a prompt."""
        pictures = [part for message in messages for part in message.content or () if isinstance(part, Picture)]
        if not pictures:
            return []
        if self._projector is None:
            raise PromptError("this model reads text only: it cannot look at pictures", "PICTURES_UNSUPPORTED")
        if len(pictures) > MAX_PICTURES:
            raise PromptError(f"a conversation can have at most {MAX_PICTURES} pictures", "PICTURE_INVALID")
        try:
            return [(picture, self._projector.layout(picture)) for picture in pictures]
        except PictureError as error:
            raise PromptError(str(error), "PICTURE_INVALID") from error

    def _marks_for(self, conversation: Any, pictures: int) -> _Marks:
        """Private-use characters that the conversation does not use itself; usually none is needed."""
        texts = list(_strings(conversation))
        found: list[str] = []
        if self._controls is not None:
            found = sorted({match for text in texts for match in self._controls.findall(text)})
        if not found and not pictures:
            return _Marks({}, [])
        taken = {char for text in texts for char in text if ord(char) >= _MARKS_START}
        free = (chr(code) for code in range(_MARKS_START, 0x10FFFE) if chr(code) not in taken)
        return _Marks(dict(zip(found, free, strict=False)), [next(free) for _ in range(pictures)])

    def _tokenize_marked(
        self, text: str, marks: _Marks, pictures: Sequence[tuple[Picture, PictureLayout]]
    ) -> EncodedPrompt:
        """Tokenises rendered text; where marks are, control tokens are written out as ordinary text, and pictures are."""
        if not marks:
            return EncodedPrompt(self.tokenize(text, parse_special=True))
        literal = {mark: control for control, mark in marks.controls.items()}
        shown = dict(zip(marks.pictures, pictures, strict=True))
        if any(mark not in text for mark in shown):
            raise PromptError("the model's chat template leaves out a picture of the conversation")
        encoded = EncodedPrompt()
        for part in re.split(f"([{''.join([*literal, *shown])}])", text):
            if part in shown:
                encoded.add_picture(*shown[part])
            elif part in literal:
                encoded.tokens += self.tokenize(literal[part], parse_special=False)
            elif part:
                encoded.tokens += self.tokenize(part, parse_special=True)
        return encoded


@dataclass(frozen=True, slots=True)
class _Marks:
    """The characters that stand for control tokens written out in a conversation, and for its pictures."""

    controls: Mapping[str, str]
    pictures: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.controls or self.pictures)

    def restored(self, text: str) -> str:
        """The text as people may read it."""
        for control, mark in self.controls.items():
            text = text.replace(mark, control)
        for mark in self.pictures:
            text = text.replace(mark, "[picture]")
        return text


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
    content: Any = message.content if message.content is not None or message.tool_calls else ""
    if isinstance(content, tuple):
        content = _joined(content)
    shaped: dict[str, Any] = {"role": message.role, "content": content}
    if message.name is not None:
        shaped["name"] = message.name
    if message.tool_call_id is not None:
        shaped["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        shaped["tool_calls"] = [_call_for_template(call) for call in message.tool_calls]
    return shaped


def _joined(parts: Iterable[str | Picture]) -> list[str | Picture]:
    """Texts that follow one another made one: what together reads like a control token must be seen as one."""
    joined: list[str | Picture] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _content(content: Any, wants_parts: bool) -> Any:
    """A message's content as the template takes it; in parts or not, the marks of pictures are text in it."""
    if content is None:
        return None
    if wants_parts:
        texts = [content] if isinstance(content, str) else content
        return [{"type": "text", "text": text} for text in texts]
    return content if isinstance(content, str) else "".join(content)


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


def _replaced(value: Any, marks: _Marks) -> Any:
    """The same with marks for control tokens and for pictures, which are taken in their order."""
    if not marks:
        return value
    longest_first = sorted(marks.controls, key=len, reverse=True)
    controls = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
    pictures = iter(marks.pictures)

    def walk(value: Any) -> Any:
        match value:
            case str():
                return value if controls is None else controls.sub(lambda found: marks.controls[found.group()], value)
            case Picture():
                return next(pictures)
            case Mapping():
                return {walk(key): walk(item) for key, item in value.items()}
            case list():
                return [walk(item) for item in value]
        return value

    return walk(value)
