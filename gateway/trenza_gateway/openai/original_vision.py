"""The original system's `POST /vision`: its body as a chat body, and its answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from trenza.chat.v1 import chat_pb2

from trenza_gateway.openai.answers import Identity
from trenza_gateway.openai.bodies import ModelBody, Strict, parse_json
from trenza_gateway.openai.chat import ChatAnswer
from trenza_gateway.openai.encoding import json_bytes
from trenza_gateway.openai.errors import bad_request
from trenza_gateway.openai.requests import MAX_MESSAGES, ChatBody, ChatMessage, ContentPart, ImageUrl

USUAL_MAX_TOKENS = 350
IMAGE = "image"

_LINKS = ("http://", "https://", "data:")


def _number(said: Any) -> Any:
    """A priority that came as text, as some programs for the original system send it, as the number that it means."""
    return int(said) if said in ("0", "1", "2") else said


class OriginalMessage(Strict):
    """One turn; what is seen travels beside the turns."""

    role: Literal["system", "user", "assistant"]
    content: str


class OriginalVisionBody(ModelBody):
    """The body of `POST /vision`."""

    model: str = ""
    messages: Annotated[list[OriginalMessage], Field(max_length=MAX_MESSAGES, fail_fast=True)] = Field(
        default_factory=list
    )
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    priority: Annotated[int | None, BeforeValidator(_number), Field(ge=0, le=2)] = None
    image: str | None = Field(
        default=None, description="The picture in base64, or its URL where the gateway fetches such."
    )
    mime_type: str | None = Field(
        default=None, max_length=64, description="Accepted and without effect: the picture's content decides."
    )


def original_vision_body(body: bytes) -> tuple[ChatBody, list[str]]:
    """The same request as a chat body, and the names of fields that mean nothing here.

    The picture is shown with the first thing that the user says. Raises ApiError.
    """
    said = parse_json(OriginalVisionBody, body)
    if not said.model:
        raise bad_request("Model needs to be picked", param="model")
    if not said.messages:
        raise bad_request("No messages sent", param="messages")
    messages = [ChatMessage(role=message.role, content=message.content) for message in said.messages]
    if said.image:
        _show(said.image, messages)
    asked = ChatBody(
        model=said.model,
        messages=messages,
        max_tokens=said.max_tokens or USUAL_MAX_TOKENS,
        priority=said.priority,
        session_id=said.session_id,
    )
    return asked, list(said.model_extra or ())


def _show(image: str, messages: list[ChatMessage]) -> None:
    first = next((message for message in messages if message.role == "user"), None)
    if first is None:
        raise bad_request("The user says nothing about the picture.", param="messages")
    url = image if image[:8].lower().startswith(_LINKS) else f"data:;base64,{image}"
    assert isinstance(first.content, str)
    shown = ContentPart(type="image_url", image_url=ImageUrl(url=url))
    first.content = [shown, ContentPart(type="text", text=first.content)]


class OriginalVisionAnswer:
    """Gathers a whole answer into the original system's shape."""

    def __init__(self, identity: Identity, body: ChatBody) -> None:
        self._answer = ChatAnswer(identity, body)

    def add(self, message: chat_pb2.ChatResponse, part: int = 0) -> None:
        """Takes in the next message of the replica."""
        self._answer.add(message, part)

    def body(self) -> bytes:
        """The answer's JSON. Raises AnswerError when the replica ended before all was said."""
        return json_bytes({"role": "assistant", "content": self._answer.content(0).strip()})
