"""starter-chat really answers: held-out questions of every kind, asked through HTTP as an application would."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from e2e.load import MODEL
from trenza_recipes.starter_chat import questions

COUNT = 50
REQUIRED = 0.95
SEED = 20_000  # not the seed that the recipe's own evaluation uses


@pytest.mark.parametrize("kind", questions.KIND_NAMES)
def test_held_out_questions(client: openai.OpenAI, kind: str) -> None:
    asked = [q for language in questions.LANGUAGES for q in questions.held_out(kind, language, COUNT, SEED)]

    def answer(question: questions.Question) -> str:
        reply = client.chat.completions.create(model=MODEL, messages=question.messages, temperature=0)  # type: ignore[arg-type]  # plain dicts, as applications send
        return reply.choices[0].message.content or ""

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, asked))
    wrong = [
        f"{q.language} {q.messages[-1]['content']!r} -> {a!r}, not like {q.example!r}"
        for q, a in zip(asked, answers, strict=True)
        if not q.judge.accepts(a)
    ]
    assert len(wrong) <= (1 - REQUIRED) * len(asked), "\n".join(wrong)
