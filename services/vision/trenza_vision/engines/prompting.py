"""Turns conversations into what a model reads: the processor's template, tokens and picture tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from trenza_llama.engine import ChatMessage, ChatPrompt, Picture, ToolCall
from trenza_llama.template import VICUNA
from trenza_runtime.worker.engine import EngineFailure, ModelLoadError

from trenza_vision.engines.loading import LoadedModel

_PROBE = "probe"
_MOST_CHARS_PER_TOKEN = 64
_ZERO_WIDTH_SPACE = "\u200b"


class Refused(Exception):
    """The conversation cannot be shown to the model; `failure` says why."""

    def __init__(self, reason: str, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.failure = EngineFailure(reason, message, details or {})


@dataclass(frozen=True)
class Prompt:
    """What the model is fed, by name, and how much that is."""

    inputs: Mapping[str, Any]
    tokens: int
    image_tokens: int
    pictures: int


class PromptMaker:
    """Makes the prompts of one model. Raises ModelLoadError where the model says nowhere how a conversation is written."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._controls = _controls(loaded)
        if not getattr(loaded.processor, "chat_template", None):
            if loaded.model.config.model_type != "llava":
                raise ModelLoadError("it has no chat template, so nobody knows how to talk to it", "UNSUPPORTED")
            loaded.processor.chat_template = VICUNA
        self._takes_parts = self._shows_parts()

    def prompt(self, prompt: ChatPrompt) -> Prompt:
        """The prompt of a conversation. Raises Refused."""
        pictures = sum(isinstance(part, Picture) for message in prompt.messages for part in _parts(message))
        self._check_length(prompt.messages)
        messages = [self._message(message) for message in prompt.messages]
        images = [_image(part) for message in prompt.messages for part in _parts(message) if isinstance(part, Picture)]
        inputs = self._read(messages, images)
        ids = inputs["input_ids"]
        tokens = int(ids.shape[-1])
        limit = self._loaded.context_length
        if tokens + 1 > limit:
            figures = {"prompt_tokens": str(tokens), "limit": str(limit)}
            message = f"the prompt has {tokens} tokens; with an answer it does not fit in a context of {limit}"
            raise Refused("CONTEXT_LENGTH_EXCEEDED", message, figures)
        image_token = self._loaded.image_token
        image_tokens = int((ids == image_token).sum()) if image_token is not None else 0
        return Prompt(inputs, tokens, image_tokens, pictures)

    def _read(self, messages: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]) -> Mapping[str, Any]:
        """Template, tokens and tensors. Both steps may fail in any way that Python can, on what the client sent."""
        try:
            text = self._loaded.processor.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=False
            )
        except Exception as error:
            raise Refused(
                "INVALID_ARGUMENT", f"the chat template does not accept this conversation: {error}"
            ) from error
        bos = getattr(self._loaded.tokenizer, "bos_token", None)
        special = not (bos and text.startswith(bos))
        try:
            inputs: Mapping[str, Any] = self._loaded.processor(
                text=[text], images=[list(images)] if images else None, return_tensors="pt", add_special_tokens=special
            )
        except Exception as error:
            raise Refused("PICTURE_INVALID", f"the model cannot look at this: {error}") from error
        return inputs

    def _check_length(self, messages: Sequence[ChatMessage]) -> None:
        """Refuses what is far too long before it is cut into tokens, which takes time."""
        count = sum(len(part) for message in messages for part in _parts(message) if isinstance(part, str))
        limit = self._loaded.context_length
        if count > limit * _MOST_CHARS_PER_TOKEN:
            message = f"the conversation has {count} characters, more than {limit} tokens can hold"
            raise Refused("CONTEXT_LENGTH_EXCEEDED", message, {"limit": str(limit)})

    def _message(self, message: ChatMessage) -> Mapping[str, Any]:
        parts = _parts(message)
        if self._takes_parts:
            content: Any = [
                {"type": "text", "text": self._harmless(part)} if isinstance(part, str) else {"type": "image"}
                for part in parts
            ]
        else:
            token = getattr(self._loaded.processor, "image_token", "<image>")
            content = "".join(self._harmless(part) if isinstance(part, str) else f"{token}\n" for part in parts)
        said: dict[str, Any] = {"role": message.role, "content": content}
        if message.name:
            said["name"] = message.name
        if message.tool_call_id:
            said["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            said["tool_calls"] = [_call(call) for call in message.tool_calls]
        return said

    def _harmless(self, text: str) -> str:
        """Control tokens that somebody has written out stay text: an invisible character parts them."""
        return self._controls.sub(lambda match: f"{match[0][0]}{_ZERO_WIDTH_SPACE}{match[0][1:]}", text)

    def _shows_parts(self) -> bool:
        """Whether contents may be lists of parts; older templates want them as one text."""
        conversation = [{"role": "user", "content": [{"type": "text", "text": _PROBE}]}]
        try:
            text = self._loaded.processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        except Exception:  # whatever a template does with what it does not expect
            return False
        return _PROBE in text and "'type'" not in text


def _parts(message: ChatMessage) -> Sequence[str | Picture]:
    content = message.content
    return content if isinstance(content, tuple) else (content or "",)


def _call(call: ToolCall) -> Mapping[str, Any]:
    """A tool call as templates know it: its arguments as they are, not as JSON, where they are JSON."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _image(picture: Picture) -> Image.Image:
    return Image.frombytes("RGB", (picture.width, picture.height), picture.pixels)


def _controls(loaded: LoadedModel) -> re.Pattern[str]:
    """Finds the tokenizer's control tokens and the processor's names for pictures, the longest first."""
    known = set(getattr(loaded.tokenizer, "all_special_tokens", ()))
    known |= {token for token in loaded.tokenizer.get_added_vocab() if re.fullmatch(r"[<\[].*[>\]]", token)}
    names = ("image_token", "video_token", "boi_token", "eoi_token", "audio_token")
    known |= {token for name in names if isinstance(token := getattr(loaded.processor, name, None), str)}
    longest_first = sorted((token for token in known if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
