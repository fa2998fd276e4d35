"""What the llama.cpp engine is asked and what it answers: plain data that crosses the border of the worker process."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

MAX_STOPS = 16
MAX_STOP_CHARS = 512
MAX_TOP_LOGPROBS = 64
MAX_LOGIT_BIASES = 1024
MAX_PICTURE_SIDE = 16_384
MAX_PICTURES = 256
"""How many pictures one conversation may have."""

KvType: TypeAlias = Literal["f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
FinishReason: TypeAlias = Literal["stop", "length"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class LlamaSpec:
    """How to load a model.

    `context_length` is the room of one slot in tokens, prompt and answer together (None: what the model was trained
    for, at most 8192). `batch_tokens` bounds one step; `prefill_tokens` bounds the prompt tokens in a step beside
    answers that are being generated, and with it the pause a long prompt causes them; both are raised where they are too
    small for every slot to advance in every step. `gpu_layers` -1 means all; it is ignored where llama.cpp was built
    without a GPU backend. `flash_attention` None lets llama.cpp decide, `threads` None leaves one core to other
    processes. `swa_full` keeps the whole context of models with sliding-window attention, which their prefix reuse
    needs. Requests beyond `slots` wait, at most `max_waiting` of them.

    `projector_path` is the file by which the model sees pictures (llama.cpp's mmproj); without it the model reads text
    only. What the projector made of a picture is kept for the next request with it, the least recently used going first
    when all of them together exceed `picture_cache_bytes`. `picture_max_tokens` bounds the tokens of one picture where
    the model looks at pictures in their own size; None is what the model was made for. Raises ValueError for values
    that cannot work.
    """

    model_path: str
    slots: int = 4
    context_length: int | None = None
    batch_tokens: int = 512
    prefill_tokens: int = 256
    threads: int | None = None
    gpu_layers: int = -1
    main_gpu: int = 0
    flash_attention: bool | None = None
    kv_type: KvType = "f16"
    swa_full: bool = True
    chat_template: str | None = None
    max_waiting: int = 256
    projector_path: str | None = None
    picture_cache_bytes: int = 256 * 2**20
    picture_max_tokens: int | None = None

    def __post_init__(self) -> None:
        _require(1 <= self.slots <= 256, "slots must be between 1 and 256")
        _require(self.context_length is None or self.context_length >= 8, "context_length must be at least 8 tokens")
        _require(self.batch_tokens >= 1, "batch_tokens must be at least 1")
        _require(self.prefill_tokens >= 1, "prefill_tokens must be at least 1")
        _require(self.threads is None or self.threads >= 1, "threads must be at least 1")
        _require(self.max_waiting >= 0, "max_waiting must not be negative")
        _require(self.picture_cache_bytes >= 0, "picture_cache_bytes must not be negative")
        _require(
            self.picture_max_tokens is None or 1 <= self.picture_max_tokens <= 65_536,
            "picture_max_tokens must be between 1 and 65536",
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    `temperature` 0 takes the likeliest token. `top_k` 0, `top_p` 1, `min_p` 0 and `repeat_penalty` 1 switch these off.
    `repeat_penalty` looks at the last 64 tokens, prompt included; `presence_penalty` and `frequency_penalty` at the
    generated tokens only. The same `seed` gives the same text again; None draws one. Raises ValueError for values
    outside their range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        _require(0 <= self.temperature <= 100, "temperature must be between 0 and 100")
        _require(0 < self.top_p <= 1, "top_p must be above 0 and at most 1")
        _require(0 <= self.top_k < 2**31, "top_k must not be negative")
        _require(0 <= self.min_p <= 1, "min_p must be between 0 and 1")
        _require(0 < self.repeat_penalty <= 100, "repeat_penalty must be above 0 and at most 100")
        _require(abs(self.presence_penalty) <= 100, "presence_penalty must be between -100 and 100")
        _require(abs(self.frequency_penalty) <= 100, "frequency_penalty must be between -100 and 100")
        _require(len(self.logit_bias) <= MAX_LOGIT_BIASES, f"logit_bias must name at most {MAX_LOGIT_BIASES} tokens")
        _require(all(math.isfinite(bias) for _, bias in self.logit_bias), "logit_bias must be finite")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an earlier answer made; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to look at: `width` times `height` pixels as RGB, 8 bits each, row by row, upright.

    Equal keys are the same picture; `key_of` makes them. Raises ValueError where the pixels do not fit the size, or
    the size is beyond what the engine looks at.
    """

    width: int
    height: int
    pixels: bytes = field(repr=False)
    key: str

    def __post_init__(self) -> None:
        _require(self.width >= 1 and self.height >= 1, "a picture has at least one pixel")
        _require(
            max(self.width, self.height) <= MAX_PICTURE_SIDE,
            f"a picture has sides of at most {MAX_PICTURE_SIDE} pixels",
        )
        _require(len(self.pixels) == 3 * self.width * self.height, "a picture has 3 bytes for each of its pixels")
        _require(re.fullmatch("[0-9a-f]{64}", self.key) is not None, "a picture's key is a SHA-256 in hexadecimal")

    @staticmethod
    def key_of(width: int, height: int, pixels: bytes) -> str:
        """The SHA-256, in hexadecimal, of a picture's size and pixels."""
        return hashlib.sha256(b"%dx%d:" % (width, height) + pixels).hexdigest()

    @classmethod
    def of(cls, width: int, height: int, pixels: bytes) -> Picture:
        """A picture with its key. Raises ValueError as the class does."""
        return cls(width, height, pixels, cls.key_of(width, height, pixels))


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation, in OpenAI's terms; the texts and pictures of `content` in their order."""

    role: str
    content: str | tuple[str | Picture, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation that the model's chat template turns into text, with its pictures where the template puts them.

    `tools_json` is OpenAI's list of tools; `template_arguments` are further variables for the template
    (`{"enable_thinking": False}`). Without `add_generation_prompt` no answer is opened after the last message.
    """

    messages: tuple[ChatMessage, ...]
    tools_json: str | None = None
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Text to be continued. Control tokens written out in it count as such unless `parse_special` is off."""

    text: str
    parse_special: bool = True


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Tokens to be continued, taken as they are."""

    tokens: tuple[int, ...]


Prompt: TypeAlias = ChatPrompt | TextPrompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class JsonObjectGrammar:
    """The answer must be a JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchemaGrammar:
    """The answer must follow a JSON schema, given as JSON.

    What a grammar cannot enforce (`multipleOf`, `uniqueItems`, `not` …) is left out, or refused if `strict`.
    """

    schema: str
    strict: bool = False


@dataclass(frozen=True, slots=True)
class GbnfGrammar:
    """The answer must follow a grammar in llama.cpp's notation, from its rule `root`."""

    text: str


Grammar: TypeAlias = JsonObjectGrammar | JsonSchemaGrammar | GbnfGrammar


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Asks for a continuation.

    `max_tokens` None means up to the end of the context. `top_logprobs` None means no log-probabilities, 0 those of the
    chosen tokens only. `echo` puts the prompt before the answer (with its log-probabilities if they are asked for).
    `cache_prompt` allows reusing what an earlier request left in the slot. `special_text` shows control tokens as text.
    Raises ValueError for values outside their range.
    """

    prompt: Prompt
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    echo: bool = False
    cache_prompt: bool = True
    special_text: bool = False

    def __post_init__(self) -> None:
        _require(self.max_tokens is None or self.max_tokens >= 0, "max_tokens must not be negative")
        _require(len(self.stop) <= MAX_STOPS, f"there can be at most {MAX_STOPS} stop sequences")
        _require(
            all(0 < len(stop) <= MAX_STOP_CHARS for stop in self.stop),
            f"a stop sequence must have between 1 and {MAX_STOP_CHARS} characters",
        )
        _require(
            self.top_logprobs is None or 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}",
        )


@dataclass(frozen=True, slots=True)
class CountRequest:
    """Asks how many tokens a prompt has for this model, exactly; answered by `Counted` without taking a slot."""

    prompt: Prompt


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """Asks for the tokens of a text; answered by `Tokenized` without taking a slot."""

    text: str
    add_special: bool = False
    parse_special: bool = False


@dataclass(frozen=True, slots=True)
class DetokenizeRequest:
    """Asks for the text of tokens; answered by `Detokenized` without taking a slot."""

    tokens: tuple[int, ...]


Request: TypeAlias = GenerateRequest | CountRequest | TokenizeRequest | DetokenizeRequest


@dataclass(frozen=True, slots=True)
class TokenAlternative:
    """A token that was possible, with its natural log-probability before sampling settings, and its raw bytes."""

    token: int
    logprob: float
    text: bytes


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The chosen token and the likeliest ones; `logprob` is None for the first token of a prompt."""

    token: int
    logprob: float | None
    text: bytes
    top: tuple[TokenAlternative, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoding:
    """The request's pictures are being looked at: `done` of the `total` that have to be; comes before `Started`."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Started:
    """The request has a slot; `cached_tokens` of its prompt did not have to be computed.

    `image_tokens` of the `prompt_tokens` are pictures.
    """

    prompt_tokens: int
    cached_tokens: int
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. `token_count` tokens were generated since the last; text may lag behind them a little.

    `logprobs` are those of the tokens whose text is shown by now, empty unless they were asked for.
    """

    text: str
    token_count: int
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds: waiting for a slot, computing the prompt, generating."""

    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer: `stop` at the end-of-text token or at `stop_sequence`, `length` at a limit.

    `completion_tokens` counts the generated tokens without the end-of-text token.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    stop_sequence: str | None
    timings: Timings


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens the prompt has; `image_tokens` of them are pictures."""

    prompt_tokens: int
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The tokens of the text."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Detokenized:
    """The text of the tokens; invalid UTF-8 comes out as U+FFFD."""

    text: str
