"""The engine in front of every synthesiser: whose turn it is, and what becomes of the sound.

One piece of one request is spoken at a time, in turn, so that a long text does not hold up a short one. Speaking happens in a
thread of its own: a piece may take a synthesiser a minute, and meanwhile the worker still hears that a request is cancelled.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts

from trenza_audio.speaking.core.speed import divide_speed
from trenza_audio.speaking.encoding import Samples, Tempo, encoder_for
from trenza_audio.speaking.engine import Finished, SpeechRequest, Spoken

_WAIT_S = 0.2
"""How long a step waits for a piece before it lets the worker listen again."""
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One piece for a synthesiser. `speed` lies within the synthesiser's own range; `seed` differs from piece to piece."""

    text: str
    voice: str
    language: str
    speed: float = 1.0
    temperature: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """A spoken piece: mono samples, 16-bit integers or floats within ±1, and the tokens it took where tokens are counted."""

    samples: NDArray[np.int16] | NDArray[np.float32]
    prompt_tokens: int = 0
    completion_tokens: int = 0


class SpeechFailed(Exception):
    """A piece cannot be spoken; `reason` and `details` become the engine's failure."""

    def __init__(self, reason: str, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = dict(details or {})


class Synthesiser(Protocol):
    """One loaded voice model. All methods are called from one thread, though not from the one that made it."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of all its sound."""

    @property
    def speeds(self) -> tuple[float, float]:
        """The slowest and the fastest that it speaks by itself."""

    def speak(self, line: Line, stopped: Callable[[], bool]) -> Sound:
        """Speaks one piece; may return anything at all once `stopped()` is true. Raises SpeechFailed."""

    def close(self) -> None:
        """Frees the model."""


class SpeechEngine:
    """An engine that speaks the pieces of its requests in turn."""

    def __init__(
        self, synthesiser: Synthesiser, facts: ModelFacts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._synthesiser = synthesiser
        self._facts = facts
        self._clock = clock
        self._talks: OrderedDict[str, _Talk] = OrderedDict()
        """The first one is next."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="speaking")
        self._running: tuple[str, _Talk, Future[Spoken | Finished]] | None = None

    @property
    def facts(self) -> ModelFacts:
        """What the loaded model is."""
        return self._facts

    @property
    def busy(self) -> bool:
        """Whether there is anything to speak."""
        return bool(self._talks) or self._running is not None

    def submit(self, request_id: str, request: SpeechRequest) -> None:
        """Accepts a request, which speaks its first piece before those that came earlier go on."""
        self._talks[request_id] = _Talk(request, self._synthesiser, self._clock)
        self._talks.move_to_end(request_id, last=False)

    def cancel(self, request_id: str) -> None:
        """Forgets a request, and stops the piece that is being spoken for it."""
        if talk := self._talks.pop(request_id, None):
            talk.stopped.set()

    def step(self) -> Sequence[Emission]:
        """Speaks the next piece of the request whose turn it is; returns nothing while that takes longer."""
        self._schedule()
        if self._running is None:
            return ()
        request_id, talk, piece = self._running
        wait([piece], _WAIT_S)
        if not piece.done():
            return ()
        self._running = None
        return [] if talk.stopped.is_set() else self._emissions(request_id, piece)

    def gauges(self) -> Mapping[str, float]:
        """Requests that are being spoken."""
        return {"talks": float(len(self._talks))}

    def close(self) -> None:
        """Stops what is being spoken and frees the model."""
        for talk in self._talks.values():
            talk.stopped.set()
        if self._running is not None:
            wait([self._running[2]], _CLOSE_S)
        self._thread.submit(self._synthesiser.close)
        self._thread.shutdown(wait=self._running is None or self._running[2].done())

    def _schedule(self) -> None:
        if self._running is None and self._talks:
            request_id, talk = next(iter(self._talks.items()))
            self._talks.move_to_end(request_id)
            self._running = request_id, talk, self._thread.submit(talk.next_piece)

    def _emissions(self, request_id: str, piece: Future[Spoken | Finished]) -> list[Emission]:
        try:
            event: Spoken | Finished | EngineFailure = piece.result()
        except SpeechFailed as failed:
            event = EngineFailure(failed.reason, str(failed), failed.details)
        last = not isinstance(event, Spoken)
        if last:
            del self._talks[request_id]
        return [Emission(request_id, event, last)]


@dataclass(eq=False)
class _Talk:
    """One request on its way: what is spoken already, and the encoder that its sound goes through."""

    request: SpeechRequest
    synthesiser: Synthesiser
    clock: Callable[[], float]
    stopped: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        rate_hz = self.synthesiser.sample_rate_hz
        self._speed = divide_speed(self.request.speed, *self.synthesiser.speeds)
        self._tempo = Tempo(self._speed.stretch, rate_hz) if self._speed.stretch != 1 else None
        self._encoder = encoder_for(self.request.format, rate_hz)
        self._done = self._samples = self._prompt_tokens = self._completion_tokens = 0
        self._begun_s: float | None = None
        self._first_s = 0.0

    def next_piece(self) -> Spoken | Finished:
        """Speaks the next piece; the last one ends the sound. Raises SpeechFailed."""
        self._begun_s = self._begun_s if self._begun_s is not None else self.clock()
        sound = self.synthesiser.speak(self._line(), self.stopped.is_set)
        self._done += 1
        self._prompt_tokens += sound.prompt_tokens
        self._completion_tokens += sound.completion_tokens
        ready = self._encode(_integers(sound.samples))
        if self._done == 1:
            self._first_s = self.clock() - self._begun_s
        return self._end(ready) if self._done == len(self.request.pieces) else Spoken(ready, self._done)

    def _line(self) -> Line:
        request, seed = self.request, self.request.seed
        return Line(
            text=request.pieces[self._done],
            voice=request.voice,
            language=request.language,
            speed=self._speed.spoken,
            temperature=request.temperature,
            seed=None if seed is None else seed + self._done,
        )

    def _encode(self, samples: Samples) -> bytes:
        if self._tempo:
            samples = self._tempo.feed(samples)
        self._samples += len(samples)
        return self._encoder.feed(samples)

    def _end(self, ready: bytes) -> Finished:
        if self._tempo:
            tail = self._tempo.end()
            self._samples += len(tail)
            ready += self._encoder.feed(tail)
        if not self._samples:
            message = "The text holds nothing that this model can speak."
            raise SpeechFailed("INVALID_ARGUMENT", message, {"param": "input"})
        assert self._begun_s is not None
        return Finished(
            sound=ready + self._encoder.end(),
            duration_s=self._samples / self.synthesiser.sample_rate_hz,
            prefill_s=self._first_s,
            decode_s=self.clock() - self._begun_s - self._first_s,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
        )


def _integers(samples: NDArray[np.int16] | NDArray[np.float32]) -> Samples:
    if samples.dtype != np.int16:
        samples = np.clip(np.nan_to_num(samples), -1.0, 1.0) * np.float32(32767.0)
    return samples.astype(np.int16, copy=False)
