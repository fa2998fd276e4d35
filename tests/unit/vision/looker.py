"""An engine of a few lines behind the real worker process: it says what it was shown, one word a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trenza_llama import engine as llama
from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts

SLOTS = 4
IMAGE_TOKENS = 10
"""Of each picture."""


def load(spec: Any, report: Callable[[float], None]) -> Looker:
    report(1.0)
    return Looker()


def words_of(messages: Sequence[llama.ChatMessage]) -> list[str]:
    """What was said and shown, word by word; a picture as its size and the colour of its first pixel."""
    words = []
    for message in messages:
        parts = message.content if isinstance(message.content, tuple) else (message.content or "",)
        for part in parts:
            words += part.split() if isinstance(part, str) else [shown(part)]
    return words


def shown(picture: llama.Picture) -> str:
    return f"<{picture.width}x{picture.height} {picture.pixels[:3].hex()}>"


class Looker:
    """The words "never-ends" in a conversation keep it talking; "refuse-me" is refused."""

    facts = ModelFacts(SLOTS, {"cpu": 1}, {"context_length": "512", "sees": "true"})

    def __init__(self) -> None:
        self._running: dict[str, list[llama.Picture | str]] = {}
        self._told: dict[str, int] = {}
        self._ready: list[Emission] = []

    def submit(self, request_id: str, request: llama.Request) -> None:
        assert isinstance(request, llama.GenerateRequest | llama.CountRequest)
        assert isinstance(request.prompt, llama.ChatPrompt)
        words = words_of(request.prompt.messages)
        pictures = sum(word.startswith("<") for word in words)
        image_tokens = pictures * IMAGE_TOKENS
        total = image_tokens + len(words) - pictures
        if isinstance(request, llama.CountRequest):
            self._ready.append(Emission(request_id, llama.Counted(total, image_tokens), True))
        elif "refuse-me" in words:
            failure = EngineFailure("PICTURE_INVALID", "The model cannot look at that.")
            self._ready.append(Emission(request_id, failure, True))
        else:
            self._ready += [
                Emission(request_id, llama.Encoding(done, pictures), False) for done in range(1, pictures + 1)
            ]
            self._ready.append(Emission(request_id, llama.Started(total, 2, image_tokens), False))
            self._running[request_id], self._told[request_id] = list(words), total

    def cancel(self, request_id: str) -> None:
        self._running.pop(request_id, None)

    def step(self) -> Sequence[Emission]:
        ready, self._ready = self._ready, []
        for request_id, words in list(self._running.items()):
            if not words:
                timings = llama.Timings(0.0, 0.1, 0.1)
                finished = llama.Finished("stop", self._told[request_id], 2, 3, None, timings)
                ready.append(Emission(request_id, finished, True))
                del self._running[request_id]
                continue
            word = words[0] if words[0] == "never-ends" else words.pop(0)
            ready.append(Emission(request_id, llama.Delta(f"{word} ", 1), False))
        return ready

    @property
    def busy(self) -> bool:
        return bool(self._running or self._ready)

    def gauges(self) -> Mapping[str, float]:
        return {"running": float(len(self._running))}

    def close(self) -> None:
        pass
