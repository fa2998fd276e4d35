from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from trenza_llama.template import CHATML, ChatTemplate, TemplateError

USER = [{"role": "user", "content": "hi"}]


def rendered(source: str, messages: list[dict[str, Any]] = USER, **settings: Any) -> str:
    template = ChatTemplate(source, "<s>", "</s>", now=lambda: datetime(2025, 3, 14))
    return template.render(
        messages, settings.pop("tools", None), settings.pop("arguments", {}), settings.pop("generate", True)
    )


def test_chatml() -> None:
    conversation = [{"role": "system", "content": "Be brief."}, *USER]
    assert rendered(CHATML, conversation) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert rendered(CHATML, generate=False).endswith("<|im_end|>\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("{{ bos_token }}[{{ messages[0].content }}]{{ eos_token }}", "<s>[hi]</s>", id="token names"),
        pytest.param("{% if true %}\n  a\n  {% endif %}\nb", "  a\nb", id="blocks leave no lines behind"),
        pytest.param("{{ {'a': 'ñ<&>', 'b': none} | tojson }}", '{"a": "ñ<&>", "b": null}', id="plain JSON"),
        pytest.param("{{ [1] | tojson(indent=2) }}", "[\n  1\n]", id="indented JSON"),
        pytest.param("{{ strftime_now('%d %B %Y') }}", "14 March 2025", id="date"),
        pytest.param("{% for i in [1, 2] %}{{ i }}{% break %}{% endfor %}", "1", id="break"),
        pytest.param("{% generation %}a{% endgeneration %}", "a", id="training marks"),
        pytest.param("{{ tools is none }} {{ thinking }}", "True no", id="arguments"),
        pytest.param("{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}", "2", id="namespaces"),
    ],
)
def test_templates_behave_as_in_transformers(source: str, expected: str) -> None:
    assert rendered(source, arguments={"thinking": "no"}) == expected


def test_arguments_cannot_replace_the_conversation() -> None:
    assert rendered("{{ messages[0].content }}{{ bos_token }}", arguments={"messages": [], "bos_token": "x"}) == "hi<s>"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{{ raise_exception('roles must alternate') }}", id="refused"),
        pytest.param("{{ messages[7].content.missing }}", id="undefined"),
        pytest.param("{{ 1 / 0 }}", id="arithmetic"),
        pytest.param("{{ messages.append(1) }}", id="changing what it is given"),
        pytest.param("{{ ''.__class__.__mro__[1].__subclasses__() }}", id="leaving the sandbox"),
        pytest.param("{% for i in range(10 ** 9) %}{% endfor %}", id="endless loop"),
    ],
)
def test_what_a_template_cannot_do_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        rendered(source)


def test_the_reason_of_a_refusal_is_told() -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        rendered("{{ raise_exception('roles must alternate') }}")


def test_a_broken_template_is_found_at_once() -> None:
    with pytest.raises(TemplateError, match="broken"):
        ChatTemplate("{% if %}", "", "")
