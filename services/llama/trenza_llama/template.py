"""Renders chat templates as Hugging Face's tokenizers do, in Jinja's sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + (message['content'] or '') + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of models that bring none."""

VICUNA = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + (message['content'] or '') + eos_token }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% else %}{{ (message['content'] or '') + ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The template of LLaVA 1.5, whose files bring none and whose vocabulary has no control tokens for a conversation."""

_PROBE = "probe"

_MAX_RENDERED_CHARS = 16_000_000


class TemplateError(ValueError):
    """The template is broken, or refuses the conversation; the message says why."""


class ChatTemplate:
    """A model's chat template; `bos_token` and `eos_token` are what templates call by these names.

    Raises TemplateError when the source is not a valid template.
    """

    def __init__(self, source: str, bos_token: str, eos_token: str, now: Callable[[], datetime] = datetime.now) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlocks, jinja2.ext.loopcontrols],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise TemplateError(f"the model's chat template is broken: {error}") from error
        self.wants_parts = not self._shows(_PROBE) and self._shows([{"type": "text", "text": _PROBE}])
        """Whether contents have to be lists of typed parts, since the template shows nothing of one that is a string."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        arguments: Mapping[str, Any],
        add_generation_prompt: bool,
    ) -> str:
        """The conversation as the model expects to read it. Raises TemplateError when the template refuses it."""
        variables = {
            **arguments,
            **self._tokens,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            text = self._template.render(variables)
        except Exception as error:  # a template can fail in any way Python can, on what the client sent
            raise TemplateError(f"the chat template does not accept this conversation: {error}") from error
        if len(text) > _MAX_RENDERED_CHARS:
            raise TemplateError(f"the rendered conversation has more than {_MAX_RENDERED_CHARS} characters")
        return text

    def _shows(self, content: Any) -> bool:
        try:
            return _PROBE in self.render([{"role": "user", "content": content}], None, {}, True)
        except TemplateError:
            return False


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter would escape what belongs to HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _GenerationBlocks(jinja2.ext.Extension):
    """Accepts `{% generation %}` blocks, which mark the assistant's tokens for training and mean nothing here."""

    tags = {"generation"}  # noqa: RUF012  Jinja declares it as a plain class attribute

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
