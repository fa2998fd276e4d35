"""The one table of what happens to each field that OpenAI's API knows: honoured, harmless, or refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trenza_gateway.openai.errors import bad_request

MAX_IGNORED_NAMES = 20
MAX_IGNORED_NAME_LENGTH = 48


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to a field. `accepts` is None where it is honoured, else tells whether a value may pass unheeded."""

    accepts: Callable[[Any], bool] | None
    why: str = ""


def _anything(_value: Any) -> bool:
    return True


def _nothing_said(value: Any) -> bool:
    return value in (None, [], {})


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or (not isinstance(value, bool) and value in values)


HONOURED = Rule(None)


def _harmless(why: str) -> Rule:
    return Rule(_anything, why)


def _refused(why: str, unless: Callable[[Any], bool] = _nothing_said) -> Rule:
    return Rule(unless, why)


_NO_TOOLS = "the models served here do not call tools"
_BOOKKEEPING = "concerns the caller's bookkeeping, not the answer"
_CACHING = "prompt prefixes are reused wherever possible in any case"

_SAMPLING: Mapping[str, Rule] = dict.fromkeys(
    (
        *("model", "n", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop"),
        *("logit_bias", "logprobs", "stream", "stream_options"),
        # Beyond OpenAI, as users of llama.cpp and vLLM expect.
        *("top_k", "min_p", "repeat_penalty", "repetition_penalty", "ignore_eos", "grammar", "priority", "session_id"),
    ),
    HONOURED,
)

CHAT_FIELDS: Mapping[str, Rule] = {
    **_SAMPLING,
    **dict.fromkeys(
        ("messages", "max_completion_tokens", "top_logprobs", "response_format", "prompt_cache_key"), HONOURED
    ),
    "user": _harmless(_BOOKKEEPING),
    "safety_identifier": _harmless(_BOOKKEEPING),
    "metadata": _harmless(_BOOKKEEPING),
    "store": _harmless("nothing is stored here"),
    "service_tier": _harmless("there is one tier; urgency is said with `priority`"),
    "prediction": _harmless("a hint for speed that never changes the answer"),
    "prompt_cache_retention": _harmless(_CACHING),
    "prompt_cache_options": _harmless(_CACHING),
    "parallel_tool_calls": _harmless(_NO_TOOLS),
    "tools": _refused(_NO_TOOLS),
    "tool_choice": _refused(_NO_TOOLS, unless=_one_of("none", "auto")),
    "functions": _refused(_NO_TOOLS),
    "function_call": _refused(_NO_TOOLS, unless=_one_of("none", "auto")),
    "modalities": _refused(
        "the models served here answer in text only", unless=lambda value: value in (None, [], ["text"])
    ),
    "audio": _refused("the models served here answer in text only"),
    "web_search_options": _refused("the models served here do not search the web", unless=_one_of()),
    "reasoning_effort": _refused("the models served here have no adjustable reasoning", unless=_one_of("none")),
    "verbosity": _refused("the models served here have no adjustable verbosity", unless=_one_of("medium")),
    "moderation": _refused("no moderation model is served here"),
}

COMPLETION_FIELDS: Mapping[str, Rule] = {
    **_SAMPLING,
    **dict.fromkeys(("prompt", "echo", "response_format"), HONOURED),
    "user": _harmless(_BOOKKEEPING),
    "best_of": _refused("candidates are not ranked here; ask for `n` choices instead", unless=_one_of(1)),
    "suffix": _refused("the models served here do not fill in the middle", unless=_one_of("")),
}


def unknown_fields(fields: Mapping[str, Any], table: Mapping[str, Rule]) -> list[str]:
    """The names among `fields`, those that no model attribute took, which the table does not know.

    Raises a 400 ApiError for a field whose value would change the answer and cannot be honoured.
    """
    unknown = []
    for name, value in fields.items():
        rule = table.get(name)
        if rule is None:
            unknown.append(name)
        elif rule.accepts is not None and not rule.accepts(value):
            raise bad_request(f"Unsupported value for '{name}': {rule.why}.", param=name, code="unsupported_value")
    return unknown


def ignored_header(names: list[str]) -> str:
    """The value of `x-trenza-ignored-fields`: at most so many names, each cut and stripped to harmless characters."""
    shown = [re.sub(r"[^A-Za-z0-9_.-]", "?", name)[:MAX_IGNORED_NAME_LENGTH] for name in names[:MAX_IGNORED_NAMES]]
    return ", ".join([*shown, "..."] if len(names) > MAX_IGNORED_NAMES else shown)
