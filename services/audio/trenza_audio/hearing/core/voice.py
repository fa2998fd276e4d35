"""Cuts sound where nobody speaks: from the probability of a voice in each piece to stretches of at most 30 seconds.

The rules for where speech begins and ends are Silero's, as faster-whisper has them; they are applied as the sound comes,
so that a long recording need not be held whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATE_HZ = 16_000
PIECE_SAMPLES = 512
"""Samples behind each probability: 32 milliseconds."""
LONGEST_SAMPLES = 30 * RATE_HZ
"""The longest stretch, which is what the model hears at once."""
_SILENCE_AT_LIMIT_SAMPLES = RATE_HZ * 98 // 1000
"""A pause that is long enough for a cut where speech goes on for too long."""
_RELEASE = 0.15
"""Speech ends below the threshold by this much, so that it does not flicker."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Somebody speaks from sample `start` up to sample `end`."""

    start: int
    end: int

    @property
    def end_s(self) -> float:
        """Its end in seconds."""
        return self.end / RATE_HZ


@dataclass(frozen=True, slots=True)
class Rules:
    """How to cut: the threshold of the probability, samples of padding at both sides, and samples of silence that end speech."""

    threshold: float
    padding: int
    silence: int


class SpeechCutter:
    """Finds speech in a row of probabilities that may come in parts."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._release = max(rules.threshold - _RELEASE, 0.01)
        self._longest = LONGEST_SAMPLES - PIECE_SAMPLES - 2 * rules.padding
        self._position = 0
        self._begun: int | None = None
        self._pause: int | None = None
        self._cut: int | None = None
        self._resumed: int | None = None
        self._padder = _Padder(rules.padding)

    @property
    def needed_from(self) -> int:
        """The first sample that what is still to be found can contain."""
        begin = self._position if self._begun is None else self._begun
        return max(0, min(begin - self._rules.padding, self._padder.needed_from))

    def feed(self, probabilities: Sequence[float]) -> list[Speech]:
        """The speech that ends in these pieces, padded."""
        found: list[Speech] = []
        for probability in probabilities:
            for raw in self._advance(probability):
                found += self._padder.push(raw)
            self._position += PIECE_SAMPLES
        begun = self._position if self._begun is None else self._begun
        return found + self._padder.settle(begun)

    def finish(self, total_samples: int) -> list[Speech]:
        """The speech that the end of the sound ends."""
        found: list[Speech] = []
        if self._begun is not None and self._begun < total_samples:
            found += self._padder.push(Speech(self._begun, total_samples))
        return found + self._padder.finish(total_samples)

    def _advance(self, probability: float) -> list[Speech]:
        """Takes one piece; the speech that ends with it."""
        here = self._position
        speaking = probability >= self._rules.threshold
        if speaking and self._pause is not None:
            self._pause = None
            if self._cut is not None and self._resumed is None:
                self._resumed = here
        if speaking and self._begun is None:
            self._begun = here
            return []
        ended: list[Speech] = []
        if self._begun is not None and here - self._begun > self._longest:
            ended.append(self._end_too_long(self._begun, here))
        if self._begun is not None and probability < self._release:
            ended += self._in_pause(self._begun, here)
        return ended

    def _end_too_long(self, begun: int, here: int) -> Speech:
        """Ends speech that goes on for too long: at its last pause where it had one, else here."""
        cut, resumed = self._cut, self._resumed
        self._pause = self._cut = self._resumed = None
        self._begun = resumed if cut is not None else None
        return Speech(begun, here if cut is None else cut)

    def _in_pause(self, begun: int, here: int) -> list[Speech]:
        pause = self._pause = here if self._pause is None else self._pause
        if here - pause > _SILENCE_AT_LIMIT_SAMPLES:
            self._cut, self._resumed = pause, None
        if here - pause < self._rules.silence:
            return []
        self._begun = self._pause = self._cut = self._resumed = None
        return [Speech(begun, pause)]


class _Padder:
    """Adds padding to speech; where two are near, each gets half of the silence between them."""

    def __init__(self, padding: int) -> None:
        self._padding = padding
        self._pending: Speech | None = None

    @property
    def needed_from(self) -> int:
        """The first sample of what is held back."""
        return self._pending.start if self._pending else 2**62

    def push(self, raw: Speech) -> list[Speech]:
        """Takes the next speech; gives the one before it."""
        before, self._pending = self._pending, raw
        if before is None:
            self._pending = Speech(max(0, raw.start - self._padding), raw.end)
            return []
        silence = raw.start - before.end
        half = min(silence // 2, self._padding)
        self._pending = Speech(raw.start - half, raw.end)
        return [Speech(before.start, before.end + half)]

    def settle(self, next_begins: int) -> list[Speech]:
        """Gives the one that is held back where the next, which begins at `next_begins` at the earliest, is too far to matter."""
        if self._pending is None or next_begins - self._pending.end < 2 * self._padding:
            return []
        done = Speech(self._pending.start, self._pending.end + self._padding)
        self._pending = None
        return [done]

    def finish(self, total_samples: int) -> list[Speech]:
        """Gives the last one."""
        if self._pending is None:
            return []
        done = Speech(self._pending.start, min(total_samples, self._pending.end + self._padding))
        self._pending = None
        return [done]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the model hears at once: speech put one after the other, the silence between left out."""

    parts: tuple[Speech, ...]

    @property
    def samples(self) -> int:
        """Its length."""
        return sum(part.end - part.start for part in self.parts)

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.samples / RATE_HZ

    def original_s(self, time_s: float, is_end: bool = False) -> float:
        """Where a time of the stretch lies in the sound; at a seam an end belongs to what is before it. Seconds."""
        sample = round(time_s * RATE_HZ)
        passed = 0
        for part in self.parts:
            length = part.end - part.start
            inside = sample < passed + length or (is_end and sample == passed + length)
            if inside or part is self.parts[-1]:
                return round((part.start + sample - passed) / RATE_HZ, 2)
            passed += length
        return round(time_s, 2)


class Gatherer:
    """Puts speech together into stretches: as much as the model can hear at once, or (`longest` 0) each on its own."""

    def __init__(self, longest: int = LONGEST_SAMPLES) -> None:
        self._longest = longest
        self._parts: list[Speech] = []

    def feed(self, speech: Iterable[Speech]) -> list[Stretch]:
        """The stretches that are full before this speech."""
        full: list[Stretch] = []
        for part in speech:
            if self._parts and Stretch(tuple(self._parts)).samples + part.end - part.start > self._longest:
                full += self.finish()
            self._parts.append(part)
        return full

    def finish(self) -> list[Stretch]:
        """The last stretch."""
        parts, self._parts = tuple(self._parts), []
        return [Stretch(parts)] if parts else []
