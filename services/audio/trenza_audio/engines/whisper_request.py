"""One request of the hearing engine: what of it is ready for the model, and what the model's answers mean for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trenza_audio.engines.whisper_model import Encoded
from trenza_audio.engines.whisper_tape import Passage, Tape, Window
from trenza_audio.hearing.core.fallback import MAX_CONDITIONING_TEMPERATURE, Attempt
from trenza_audio.hearing.core.prompts import MAX_HISTORY_TOKENS
from trenza_audio.hearing.core.segments import FRAMES_PER_S, advanced
from trenza_audio.hearing.core.voice import Stretch
from trenza_audio.hearing.engine import Advanced, Finished, HearRequest, Segment, Started

T = TypeVar("T")

MAX_PASSAGES = 8
"""Passages of one request that are held ready for the model."""


@dataclass(eq=False)
class Track:
    """Sound that is heard window after window: a whole recording, or one passage of it.

    `history` are the latest tokens of its text, `spoken_until_s` where its last word ends.
    """

    history: tuple[int, ...]
    passage: Passage | None = None
    spoken_until_s: float = 0.0
    done: bool = False
    segments: list[Segment] = field(default_factory=list)

    @property
    def stretch(self) -> Stretch | None:
        """Where a passage came from; None for a whole recording."""
        return self.passage.stretch if self.passage else None

    def remember(self, tokens: Sequence[int], temperature: float) -> None:
        """Notes the text of a window for the prompts of the next."""
        if temperature > MAX_CONDITIONING_TEMPERATURE:
            self.history = ()
        else:
            self.history = (*self.history, *tokens)[-MAX_HISTORY_TOKENS:]


@dataclass(eq=False)
class Turn:
    """A window on its way through the model, with the attempts made at it."""

    hearing: Hearing
    track: Track
    window: Window
    encoded: Encoded | None = None
    attempts: list[Attempt] = field(default_factory=list)
    settled: Attempt | None = None

    @property
    def sound(self) -> Encoded:
        """What the encoder made of it."""
        assert self.encoded is not None
        return self.encoded


class Hearing:
    """A request that runs. Its file is read in a thread of its own; everything else happens in the engine's."""

    def __init__(
        self,
        name: str,
        request: HearRequest,
        history: Sequence[int],
        open_tape: Callable[[], Tape],
        on_news: Callable[[], None],
        submitted_s: float,
    ) -> None:
        self.name = name
        self.request = request
        self.language = request.language
        self.language_probability = 1.0 if request.language else 0.0
        self.served_at = -1
        self.ready: deque[Turn] = deque()
        self._history = tuple(history)
        self._on_news = on_news
        self._thread = ThreadPoolExecutor(1, f"hearing-{name[:16]}")
        self._jobs: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()
        self._tape: Tape | None = None
        self._open = open_tape
        self._tracks: deque[Track] = deque()
        self._out: list[object] = []
        self._in_passages = False
        self._passages_asked = 0
        self._no_more = False
        self._told_start = False
        self._speech_s = 0.0
        self._done_s = 0.0
        self._submitted_s, self._begun_s = submitted_s, time.monotonic()
        self._first_s: float | None = None
        self._closed = False
        self._ask(self._begin, self._begun)

    @property
    def finished(self) -> bool:
        """Whether all of it has been heard and told."""
        return self._no_more and not self._tracks and not self._jobs

    def ready_turns(self) -> int:
        """How many of its windows the model may hear now: one until the language is known."""
        return len(self.ready) if self.language else min(1, len(self.ready))

    def collect(self) -> None:
        """Takes over what its thread has done. Raises SoundError, and whatever else went wrong there."""
        while self._jobs and self._jobs[0][0].done():
            future, then = self._jobs.popleft()
            then(future.result())

    def heard(self, turn: Turn, next_seek: int) -> None:
        """Goes on behind a window that has been heard."""
        seek = advanced(turn.window.seek, next_seek)
        passage = turn.track.passage
        tape = self._loaded
        if passage is None:
            self._done_s = seek / FRAMES_PER_S
            self._ask(lambda: tape.window(seek), lambda window: self._next(turn.track, window))
        else:
            self._ask(lambda: tape.window_of(passage.samples, seek), lambda window: self._next(turn.track, window))
        self._tell_segments()
        self._out.append(Advanced(min(self._done_s, tape.duration_s or self._done_s), tape.duration_s))

    def detected(self, language: str, probability: float) -> None:
        """Notes the language that the model heard."""
        self.language, self.language_probability = language, probability

    def take_turns(self, count: int) -> list[Turn]:
        """The next windows for the model; its thread reads on meanwhile."""
        turns = [self.ready.popleft() for _ in range(count)]
        self._tell_start()
        if not self._in_passages:
            tape, seek = self._loaded, turns[-1].window.seek
            self._ask(lambda: tape.read_ahead(seek), lambda _: None)
        return turns

    def put_back(self, turn: Turn) -> None:
        """Puts a window back that has to be heard again, before all others."""
        self.ready.appendleft(turn)

    def events(self) -> list[object]:
        """What there is to tell since the last look; `Finished` at the end."""
        self._tell_start()
        if self.finished and not self._closed:
            self._out.append(self._summary())
        events, self._out = self._out, []
        return events

    def close(self) -> None:
        """Ends its thread and closes the file."""
        if self._closed:
            return
        self._closed = True
        for future, _ in self._jobs:
            future.cancel()
        if self._tape:
            self._tape.stop()
        self._thread.submit(self._close_tape)
        self._thread.shutdown(wait=False)

    def _close_tape(self) -> None:
        if self._tape:
            self._tape.close()

    @property
    def _loaded(self) -> Tape:
        assert self._tape is not None
        return self._tape

    def _ask(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        future = self._thread.submit(work)
        self._jobs.append((future, then))
        future.add_done_callback(lambda _: self._on_news())

    def _begin(self) -> bool:
        self._tape = self._open()
        return self._tape.begin(self.request.chunking)

    def _begun(self, in_passages: bool) -> None:
        self._in_passages = in_passages
        tape = self._loaded
        if in_passages:
            self._ask_for_passages()
            return
        self._no_more = True
        track = Track(self._history)
        self._tracks.append(track)
        self._ask(lambda: tape.window(0), lambda window: self._next(track, window))

    def _ask_for_passages(self) -> None:
        while not self._no_more and self._passages_asked + len(self._tracks) < MAX_PASSAGES:
            self._passages_asked += 1
            self._ask(self._loaded.passage, self._next_passage)

    def _next_passage(self, passage: Passage | None) -> None:
        self._passages_asked -= 1
        if passage is None:
            self._no_more = True
            return
        track = Track(self._history, passage)
        self._tracks.append(track)
        self._speech_s += passage.stretch.seconds
        self._next(track, passage.window)

    def _next(self, track: Track, window: Window | None) -> None:
        if window is None:
            track.done = True
            self._tell_segments()
        else:
            self.ready.append(Turn(self, track, window))

    def _tell_start(self) -> None:
        if self._told_start or self._tape is None or not (self.language or self.finished):
            return
        if self.ready or self._tracks or self.finished:
            self._told_start = True
            self._out.append(Started(self.language, self.language_probability, self._tape.duration_s))

    def _tell_segments(self) -> None:
        """Tells the segments of the first track that is not done, and of those before it: a transcript is in order."""
        while self._tracks:
            track = self._tracks[0]
            if track.segments:
                self._first_s = self._first_s or time.monotonic()
                self._tell_start()
            self._out += track.segments
            if not self._in_passages:
                self._speech_s += sum(segment.end_s - segment.start_s for segment in track.segments)
            track.segments.clear()
            if not track.done:
                return
            self._tracks.popleft()
            if track.stretch:
                self._done_s = track.stretch.parts[-1].end_s
            if self._in_passages:
                self._ask_for_passages()

    def _summary(self) -> Finished:
        now_s = time.monotonic()
        first_s = self._first_s or now_s
        return Finished(
            self.language,
            self._loaded.duration_s,
            self._speech_s,
            queue_s=self._begun_s - self._submitted_s,
            prefill_s=first_s - self._begun_s,
            decode_s=now_s - first_s,
        )
