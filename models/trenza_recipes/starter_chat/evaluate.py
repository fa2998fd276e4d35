"""Asking the finished model file held-out questions through llama.cpp and counting the right answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llama_cpp import Llama

from trenza_recipes.starter_chat.questions import KIND_NAMES, LANGUAGES, Question, held_out

ANSWER_TOKENS = 128


@dataclass(frozen=True)
class Score:
    """How many of the questions of one kind and language were answered rightly, and the wrong answers."""

    kind: str
    language: str
    asked: int
    wrong: tuple[tuple[Question, str], ...]

    @property
    def share(self) -> float:
        return 1 - len(self.wrong) / self.asked


def load(path: Path, context_tokens: int = 1024) -> Llama:
    """The model file, ready to be asked."""
    return Llama(str(path), n_ctx=context_tokens, n_threads=1, n_threads_batch=1, verbose=False)


def answer(model: Llama, messages: list[dict[str, str]], temperature: float = 0.0) -> str:
    """The model's reply to `messages`, in the chat template of the model file."""
    reply = model.create_chat_completion(
        messages=messages,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        repeat_penalty=1.0,
        max_tokens=ANSWER_TOKENS,
        seed=1,
    )
    return str(reply["choices"][0]["message"]["content"])


def score(model: Llama, questions: list[Question], temperature: float = 0.0) -> Score:
    """Ask questions of one kind and language."""
    replies = [(question, answer(model, question.messages, temperature)) for question in questions]
    wrong = tuple((question, reply) for question, reply in replies if not question.judge.accepts(reply))
    return Score(questions[0].kind, questions[0].language, len(questions), wrong)


def evaluate(path: Path, count: int, seed: int, temperature: float, shown: int) -> None:
    """Print a table of shares per kind and language, and up to `shown` wrong answers of each."""
    model = load(path)
    print("| kind | " + " | ".join(LANGUAGES) + " |\n|---|" + "---|" * len(LANGUAGES))
    scores = []
    for kind in KIND_NAMES:
        row = [score(model, held_out(kind, language, count, seed), temperature) for language in LANGUAGES]
        scores += row
        print(f"| {kind} | " + " | ".join(f"{entry.share:.1%}" for entry in row) + " |", flush=True)
    for entry in scores:
        for question, reply in entry.wrong[:shown]:
            asked = question.messages[-1]["content"]
            print(f"{entry.kind} {entry.language}: {asked!r} -> {reply!r}, not {question.example!r}")
