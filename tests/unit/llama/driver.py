"""Runs requests through an engine and sorts what comes out by request."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from trenza_llama.engine import ChatMessage, ChatPrompt, Delta, Finished, GenerateRequest, Sampling, Started, TextPrompt
from trenza_runtime.worker.engine import EngineFailure

GREEDY = Sampling(temperature=0)
MAX_STEPS = 5000


def chat(text: str) -> ChatPrompt:
    """A conversation of one message."""
    return ChatPrompt((ChatMessage("user", text),))


def ask(text: str, max_tokens: int = 16, **settings: Any) -> GenerateRequest:
    """A greedy continuation of a text, unless the settings say otherwise."""
    return GenerateRequest(TextPrompt(text), **{"sampling": GREEDY, "max_tokens": max_tokens, **settings})


@dataclass
class Answer:
    """All events of one request."""

    events: list[Any] = field(default_factory=list)
    ended: int = 0

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    @property
    def deltas(self) -> list[Delta]:
        return [event for event in self.events if isinstance(event, Delta)]

    @property
    def logprobs(self) -> list[Any]:
        return [logprob for delta in self.deltas for logprob in delta.logprobs]

    @property
    def started(self) -> Started:
        return next(event for event in self.events if isinstance(event, Started))

    @property
    def finished(self) -> Finished:
        assert isinstance(self.events[-1], Finished), self.events[-1]
        return self.events[-1]

    @property
    def failure(self) -> EngineFailure:
        assert isinstance(self.events[-1], EngineFailure), self.events[-1]
        return self.events[-1]


class Driver:
    """An engine with the events it has emitted so far."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.answers: defaultdict[str, Answer] = defaultdict(Answer)
        self._numbered = 0

    def submit(self, request: Any, request_id: str | None = None) -> str:
        if request_id is None:
            self._numbered += 1
            request_id = f"request-{self._numbered}"
        self.engine.submit(request_id, request)
        return request_id

    def step(self) -> list[Any]:
        emissions = list(self.engine.step())
        for emission in emissions:
            answer = self.answers[emission.request_id]
            assert not answer.ended, f"{emission.request_id} went on after its end"
            answer.events.append(emission.event)
            answer.ended += emission.last
        return emissions

    def finish(self) -> None:
        """Steps until nothing is left to do."""
        for _ in range(MAX_STEPS):
            if not self.engine.busy:
                return
            self.step()
        raise AssertionError(f"still busy after {MAX_STEPS} steps")

    def run(self, *requests: Any) -> list[Answer]:
        """Runs requests together and returns their answers in the same order."""
        ids = [self.submit(request) for request in requests]
        self.finish()
        return [self.answers[request_id] for request_id in ids]

    def run_one(self, request: Any) -> Answer:
        return self.run(request)[0]
