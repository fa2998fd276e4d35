"""What the bodies of text requests may say: the honoured fields, their types and their bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from trenza_gateway.openai.bodies import ModelBody, Seed, Strict, parse_json
from trenza_gateway.openai.errors import bad_request

MAX_MESSAGES = 10_000
MAX_PARTS = 1_000
MAX_CHOICES = 16
MAX_PROMPTS = 128
MAX_PROMPT_TOKENS = 1_000_000
MAX_STOPS = 16
MAX_LOGIT_BIASES = 4_096

_TokenId = Annotated[int, Field(ge=0, le=2**32 - 1)]
_TokenIds = Annotated[list[_TokenId], Field(min_length=1, max_length=MAX_PROMPT_TOKENS, fail_fast=True)]
_StopText = Annotated[str, Field(min_length=1, max_length=1_000)]


class ImageUrl(Strict):
    """Where a picture is, and how closely to look at it."""

    url: str = Field(
        min_length=1,
        description="A data URL (`data:image/png;base64,…`), or one of the net where the gateway fetches such.",
    )
    detail: Literal["auto", "low", "high", "original"] | None = None


class ContentPart(Strict):
    """A piece of a turn. Texts, refusals and pictures are honoured; the other kinds are known in order to be refused by name."""

    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None


class FunctionCall(Strict):
    """The function that an assistant called earlier, and its arguments in JSON."""

    name: str = Field(min_length=1, max_length=256)
    arguments: str


class ToolCall(Strict):
    """A call that an assistant made earlier in the conversation."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Strict):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[ContentPart], Field(max_length=MAX_PARTS, fail_fast=True)] | None = None
    name: str | None = Field(default=None, max_length=256)
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128, fail_fast=True)] | None = None
    tool_call_id: str | None = Field(default=None, max_length=256)


class JsonSchema(Strict):
    """A named JSON Schema for the answer."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Strict):
    """How to stream."""

    include_usage: bool | None = None


class GenerationBody(ModelBody):
    """The fields that chat completions and completions share."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000, description="Beyond OpenAI: 0 and -1 mean all.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="Beyond OpenAI.")
    repeat_penalty: float | None = Field(default=None, gt=0, le=10, description="Beyond OpenAI.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="The same as `repeat_penalty`.")
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: Seed | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=MAX_STOPS, fail_fast=True)] | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_LOGIT_BIASES)] | None
    ) = None
    ignore_eos: bool | None = Field(
        default=None, description="Beyond OpenAI: go on after the model says that it has ended."
    )
    grammar: str | None = Field(
        default=None, min_length=1, max_length=100_000, description="Beyond OpenAI: a GBNF grammar for the answer."
    )
    response_format: ResponseFormat | None = None

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatBody(GenerationBody):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    prompt_cache_key: str | None = Field(default=None, max_length=256)


class CompletionBody(GenerationBody):
    """The body of `POST /v1/completions`."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | _TokenIds
        | Annotated[list[_TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    )
    max_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: bool | None = None


_BodyT = TypeVar("_BodyT", bound=GenerationBody)


def parse(kind: type[_BodyT], body: bytes) -> _BodyT:
    """Reads a body. Raises a 400 ApiError that names the field that is wrong."""
    parsed = parse_json(kind, body)
    if parsed.stream_options is not None and not parsed.stream:
        raise bad_request("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    return parsed
