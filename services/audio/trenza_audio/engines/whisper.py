"""The hearing engine: windows of all running requests share the batches of one Whisper."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from trenza_runtime.errors import Reason
from trenza_runtime.worker.engine import Emission, EngineFailure, ModelFacts, ProgressReporter

from trenza_audio.engines import whisper_model
from trenza_audio.engines.whisper_features import Features
from trenza_audio.engines.whisper_model import OutOfMemory, Whisper
from trenza_audio.engines.whisper_request import Hearing, Turn
from trenza_audio.engines.whisper_sound import SoundError
from trenza_audio.engines.whisper_tape import Tape
from trenza_audio.engines.whisper_voice import VoiceModel
from trenza_audio.engines.whisper_writing import Writer
from trenza_audio.hearing.core.fallback import Attempt, settle, temperatures
from trenza_audio.hearing.core.prompts import Prompt, prompt, share_calls
from trenza_audio.hearing.core.turns import Standing, choose, fitting_batch
from trenza_audio.hearing.engine import Finished, HearRequest, WhisperSpec

log = logging.getLogger(__name__)

_PATIENCE_S = 0.05
"""How long a step waits for sound to be decoded; cancellations are noticed in between."""


class HearingEngine:
    """Runs up to `slots` requests. Each step hears up to `batch` windows, of as many requests as possible."""

    def __init__(self, whisper: Whisper, spec: WhisperSpec, on_cpu: Callable[[], Whisper] | None = None) -> None:
        """`on_cpu` loads the model into main memory, for when a GPU has no room left; None where it is there already."""
        self._whisper = whisper
        self._spec = spec
        self._on_cpu = on_cpu
        self._limit = spec.batch
        self._batch = fitting_batch(spec.batch, 1, whisper.window_s)
        self._features = Features(whisper.mels)
        self._voice = VoiceModel()
        self._writer = Writer(whisper)
        self._waiting: deque[tuple[str, HearRequest, float]] = deque()
        self._running: dict[str, Hearing] = {}
        self._failed: list[Emission] = []
        self._news = threading.Event()
        self._steps = 0
        self._heard_windows = 0
        self.facts = ModelFacts(
            slots=spec.slots,
            memory_bytes=whisper.memory_bytes,
            properties={
                "device": whisper.placement.device,
                "compute_type": whisper.compute_type,
                "multilingual": str(whisper.multilingual).lower(),
                "batch": str(spec.batch),
            },
        )

    def submit(self, request_id: str, request: HearRequest) -> None:
        """Accepts a request, or notes why it cannot be served."""
        if failure := self._refusal(request):
            self._failed.append(Emission(request_id, failure, last=True))
        else:
            self._waiting.append((request_id, request, time.monotonic()))

    def cancel(self, request_id: str) -> None:
        """Forgets a request; its places in the batch are free from the next step on."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != request_id)
        if hearing := self._running.pop(request_id, None):
            hearing.close()

    @property
    def busy(self) -> bool:
        """Whether there is a request."""
        return bool(self._waiting or self._running or self._failed)

    def step(self) -> Sequence[Emission]:
        """Hears one batch; waits a moment where no sound is decoded yet."""
        emissions, self._failed = self._failed, []
        self._news.clear()
        self._admit()
        emissions += self._collect()
        turns = self._choose()
        if turns:
            self._hear(turns)
            emissions += self._tell()
        elif not emissions:
            self._news.wait(_PATIENCE_S)
        return emissions

    def gauges(self) -> Mapping[str, float]:
        """How full the batches are."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "batch_limit": self._batch,
            "steps": self._steps,
            "windows": self._heard_windows,
        }

    def close(self) -> None:
        """Frees the model and ends what still runs."""
        for hearing in self._running.values():
            hearing.close()
        self._running.clear()
        self._whisper.close()

    def _refusal(self, request: HearRequest) -> EngineFailure | None:
        if len(self._waiting) >= self._spec.max_waiting:
            return EngineFailure(Reason.QUEUE_FULL, f"{len(self._waiting)} requests wait already.")
        if request.language and not self._whisper.vocabulary.knows(request.language):
            message = f"This model does not know the language {request.language!r}."
            return EngineFailure(Reason.INVALID_ARGUMENT, message, {"param": "language"})
        if request.task == "translate" and not self._whisper.multilingual:
            return EngineFailure(Reason.UNSUPPORTED, "This model knows English only.", {"param": "model"})
        return None

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._spec.slots:
            name, request, submitted_s = self._waiting.popleft()
            tape = partial(Tape, request.path, self._spec.sound_limit_s, self._features, self._voice)
            history = self._whisper.vocabulary.encode(request.prompt)
            self._running[name] = Hearing(name, request, history, tape, self._news.set, submitted_s)

    def _collect(self) -> list[Emission]:
        """Takes over what the requests' threads have done."""
        for name, hearing in list(self._running.items()):
            try:
                hearing.collect()
            except SoundError as error:
                self._fail(name, EngineFailure(Reason.INVALID_AUDIO, str(error), {"param": "file"}))
            except Exception:
                log.exception("a request's sound cannot be read", extra={"request": name})
                self._fail(name, EngineFailure(Reason.INTERNAL, "The sound could not be read; the log says more."))
        return self._tell()

    def _fail(self, name: str, failure: EngineFailure) -> None:
        self._running.pop(name).close()
        self._failed.append(Emission(name, failure, last=True))

    def _tell(self) -> list[Emission]:
        told, self._failed = self._failed, []
        for name, hearing in list(self._running.items()):
            for event in hearing.events():
                last = isinstance(event, Finished)
                told.append(Emission(name, event, last))
                if last:
                    self._running.pop(name).close()
        return told

    def _choose(self) -> list[Turn]:
        standings = [
            Standing(name, hearing.ready_turns(), hearing.served_at) for name, hearing in self._running.items()
        ]
        chosen = choose(standings, self._batch)
        turns = [turn for name, count in chosen.items() for turn in self._running[name].take_turns(count)]
        for name in chosen:
            self._running[name].served_at = self._steps
        self._steps += bool(turns)
        return turns

    def _hear(self, turns: Sequence[Turn]) -> None:
        """Runs one batch. Where the device has no memory for it, the turns are put back and the next batch is smaller."""
        begun_s = time.monotonic()
        try:
            self._encode([turn for turn in turns if turn.encoded is None])
            self._detect([turn for turn in turns if not turn.hearing.language])
            attempts = self._write(turns)
            self._finish(turns, attempts)
        except OutOfMemory:
            for turn in reversed(turns):
                turn.encoded = turn.settled = None
                turn.hearing.put_back(turn)
            self._make_smaller(len(turns))
        else:
            self._heard_windows += len(turns)
            self._batch = fitting_batch(self._limit, len(turns), time.monotonic() - begun_s)

    def _encode(self, turns: Sequence[Turn]) -> None:
        if turns:
            encoded = self._whisper.encode([turn.window.spectrogram for turn in turns])
            for turn, one in zip(turns, encoded, strict=True):
                turn.encoded = one

    def _detect(self, turns: Sequence[Turn]) -> None:
        if turns:
            detected = self._whisper.detect([turn.sound for turn in turns])
            for turn, (language, probability) in zip(turns, detected, strict=True):
                turn.hearing.detected(language, probability)

    def _write(self, turns: Sequence[Turn]) -> list[Attempt]:
        """Lets the model write each window's text, in as few calls as temperatures and prompts allow."""
        by_temperature: dict[float, dict[int, Prompt]] = {}
        for index, turn in enumerate(turns):
            by_temperature.setdefault(_temperature(turn), {})[index] = self._prompt(turn)
        written: dict[int, Attempt] = {}
        for temperature, prompts in by_temperature.items():
            for lead, members in share_calls(prompts):
                attempts = self._whisper.write(
                    [turns[index].sound for index in members],
                    [prompts[index].shortened(lead) for index in members],
                    temperature,
                )
                written.update(zip(members, attempts, strict=True))
        return [written[index] for index in range(len(turns))]

    def _prompt(self, turn: Turn) -> Prompt:
        vocabulary, request = self._whisper.vocabulary, turn.hearing.request
        return prompt(
            vocabulary.start_of_previous,
            vocabulary.start(turn.hearing.language, request.task),
            turn.track.history,
            vocabulary.encode(", ".join(request.hotwords)),
        )

    def _finish(self, turns: Sequence[Turn], attempts: Sequence[Attempt]) -> None:
        """Takes over the texts that are good enough; the other windows are heard again in a later step."""
        for turn, attempt in zip(turns, attempts, strict=True):
            planned = temperatures(turn.hearing.request.temperature)
            turn.settled = settle([*turn.attempts, attempt], planned)
        self._writer.take_over([turn for turn in turns if turn.settled])
        for turn, attempt in reversed(list(zip(turns, attempts, strict=True))):
            if not turn.settled:
                turn.attempts.append(attempt)
                turn.hearing.put_back(turn)

    def _make_smaller(self, windows: int) -> None:
        if windows > 1:
            self._batch = self._limit = math.ceil(windows / 2)
            log.warning("the device has no memory for a batch", extra={"windows": windows, "next": self._limit})
        elif self._on_cpu is not None:
            log.warning("the GPU is full, the model goes on on the CPU")
            self._whisper.close()
            self._whisper = self._on_cpu()
            self._writer = Writer(self._whisper)
            self._on_cpu, self._limit = None, self._spec.batch
            self._batch = fitting_batch(self._limit, 1, self._whisper.window_s)
        else:
            raise MemoryError("there is no memory to hear a single window")


def _temperature(turn: Turn) -> float:
    return temperatures(turn.hearing.request.temperature)[len(turn.attempts)]


def load(spec: WhisperSpec, report: ProgressReporter) -> HearingEngine:
    """Loads a Whisper. Raises ModelLoadError."""
    folder = whisper_model.find(spec)
    report(0.3)
    whisper = whisper_model.load(folder, spec)
    report(0.9)
    movable = whisper.placement.device != "cpu" and spec.device == "auto"
    on_cpu: Any = partial(whisper_model.on_cpu, folder, spec) if movable else None
    return HearingEngine(whisper, spec, on_cpu)
