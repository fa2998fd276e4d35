"""Runs requests through a hearing engine and counts what it asks of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trenza_audio.engines import whisper
from trenza_audio.engines.whisper_model import OutOfMemory
from trenza_audio.hearing.engine import Finished, HearRequest, Segment, Started, WhisperSpec
from trenza_runtime.worker.engine import EngineFailure

_LIMIT_S = 120.0


class Driver:
    """An engine with its requests' events by name; `calls` are the batch sizes of each method of the model, in order."""

    def __init__(self, folder: Path, on_cpu: Callable[[], Any] | None = None, **settings: Any) -> None:
        usual = {"compute_type": "float32", "threads": 1, "device": "cpu"}
        self.spec = WhisperSpec(str(folder), **{**usual, **settings})
        self.engine = whisper.load(self.spec, lambda part: None)
        self.events: dict[str, list[Any]] = {}
        self.calls: dict[str, list[int]] = {}
        self.memory_windows = 10**6
        """Windows that the model's device has room for."""
        for method in ("encode", "detect", "write", "align"):
            self._count(method)

    def submit(self, name: str, path: Path, **fields: Any) -> None:
        self.engine.submit(name, HearRequest(str(path), **{"temperature": 0.0, **fields}))

    def step(self) -> None:
        for emission in self.engine.step():
            self.events.setdefault(emission.request_id, []).append(emission.event)

    def run(self) -> None:
        """Steps until all requests have ended."""
        self.run_until(lambda: not self.engine.busy)

    def run_until(self, condition: Callable[[], bool]) -> None:
        begun_s = time.monotonic()
        while not condition():
            assert time.monotonic() - begun_s < _LIMIT_S, "the engine does not come to an end"
            self.step()

    def hear(self, path: Path, **fields: Any) -> list[Any]:
        """The events of one request."""
        name = f"request {len(self.events)}"
        self.submit(name, path, **fields)
        self.run()
        return self.events[name]

    def ready(self, windows: int = 1) -> None:
        """Waits until every running request has decoded so many windows of sound, without hearing any of it."""
        self.engine._admit()
        for hearing in self.engine._running.values():
            begun_s = time.monotonic()
            while len(hearing.ready) < windows:
                assert time.monotonic() - begun_s < _LIMIT_S
                time.sleep(0.005)
                hearing.collect()

    def _count(self, method: str) -> None:
        original = getattr(self.engine._whisper, method)

        def counted(rows: Sequence[Any], *rest: Any) -> Any:
            self.calls.setdefault(method, []).append(len(rows))
            if len(rows) > self.memory_windows:
                raise OutOfMemory
            return original(rows, *rest)

        setattr(self.engine._whisper, method, counted)


def segments(events: Sequence[Any]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment)]


def text(events: Sequence[Any]) -> str:
    return "".join(segment.text for segment in segments(events))


def started(events: Sequence[Any]) -> Started:
    (one,) = [event for event in events if isinstance(event, Started)]
    return one


def finished(events: Sequence[Any]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def failure(events: Sequence[Any]) -> EngineFailure:
    (one,) = events
    assert isinstance(one, EngineFailure)
    return one
