"""What one request hears: its sound as windows for the model, cut from the file as they are asked for.

Everything here runs in the request's own thread, beside the model's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from trenza_audio.engines.whisper_features import FRAME_SAMPLES, MARGIN_FRAMES, Features, Spectrogram
from trenza_audio.engines.whisper_sound import RATE_HZ, Samples, SoundFile
from trenza_audio.engines.whisper_voice import VoiceModel
from trenza_audio.hearing.core.segments import WINDOW_FRAMES
from trenza_audio.hearing.core.voice import Gatherer, Rules, Speech, SpeechCutter, Stretch
from trenza_audio.hearing.engine import Undecided, VoiceActivity

_AUTOMATIC_FROM_SAMPLES = 30 * RATE_HZ
"""From this length on the engine's own choice is to cut where nobody speaks: such windows can be heard side by side."""
_QUIET = -10.0
"""What the loudest point begins with: the logarithm of the spectrogram's floor."""

_SILENT_PEAK = 32
"""Sound that is never louder than this, of 32768, is silence: 60 decibels below the loudest there can be."""


@dataclass(frozen=True, slots=True)
class Window:
    """Up to 30 seconds for the model. `seek` is the frame of its passage at which it begins, `frames` what it holds."""

    seek: int
    frames: int
    spectrogram: Spectrogram


@dataclass(frozen=True, slots=True)
class Passage:
    """Speech of at most 30 seconds that is heard on its own, with where it came from, and its first window."""

    stretch: Stretch
    samples: Samples
    window: Window | None


class Tape:
    """A file as windows: in one go, one after the other (`window`), or as passages that know nothing of each other (`passage`)."""

    def __init__(self, path: str, limit_s: float, features: Features, voice: VoiceModel) -> None:
        """Opens the file. Raises SoundError."""
        self._sound = SoundFile(path, limit_s)
        self._features = features
        self._voice = voice
        self._buffer = _Buffer()
        self._loudest = _QUIET
        self._ended = False
        self._cutting: _Cutting | None = None

    @property
    def duration_s(self) -> float:
        """The sound's length in seconds: exactly once it has ended, before that as the file states it, 0 where it does not."""
        return self._sound.samples / RATE_HZ if self._ended else self._sound.duration_s

    @property
    def heard_s(self) -> float:
        """Seconds read so far."""
        return self._sound.samples / RATE_HZ

    def begin(self, chunking: VoiceActivity | Undecided) -> bool:
        """Decides how the sound is cut; true for passages. Raises SoundError."""
        if chunking == "auto":
            self._read_until(_AUTOMATIC_FROM_SAMPLES + 1)
            chunking = "none" if self._ended else VoiceActivity()
        if isinstance(chunking, VoiceActivity):
            self._cutting = _Cutting(chunking, self._voice)
        return self._cutting is not None

    def window(self, seek: int) -> Window | None:
        """The window that begins at frame `seek`, or later where there is silence; None behind the end. Raises SoundError."""
        while True:
            wanted = (seek + WINDOW_FRAMES + MARGIN_FRAMES) * FRAME_SAMPLES
            self._read_until(wanted)
            frames = WINDOW_FRAMES
            if self._ended:
                frames = min(frames, self._buffer.end // FRAME_SAMPLES - seek)
            if frames <= 0:
                return None
            lead = min(seek, MARGIN_FRAMES)
            first = (seek - lead) * FRAME_SAMPLES
            self._buffer.drop_before(first)
            samples = self._buffer.cut(first, wanted)
            if _is_audible(samples):
                break
            seek += frames  # models are known to make things up where there is nothing at all
        is_end = self._ended and wanted >= self._buffer.end
        spectrogram, self._loudest = self._features.window(samples, lead, frames, is_end, self._loudest)
        return Window(seek, frames, spectrogram)

    def read_ahead(self, seek: int) -> None:
        """Reads on while the model hears the window that begins at `seek`. Raises SoundError."""
        self._read_until((seek + 2 * WINDOW_FRAMES + MARGIN_FRAMES) * FRAME_SAMPLES)

    def passage(self) -> Passage | None:
        """The next passage; None behind the last. Raises SoundError."""
        cutting = self._cutting
        assert cutting is not None
        for piece in self._buffer.take():
            cutting.feed(piece)
        while not cutting.ready and not self._ended:
            if (next_piece := self._sound.read()) is None:
                self._ended = True
                cutting.finish()
            else:
                cutting.feed(next_piece)
        if not cutting.ready:
            return None
        stretch, samples = cutting.ready.popleft()
        return Passage(stretch, samples, self.window_of(samples, 0))

    def window_of(self, samples: Samples, seek: int) -> Window | None:
        """The window of a passage that begins at frame `seek`; None behind its end."""
        frames = min(WINDOW_FRAMES, len(samples) // FRAME_SAMPLES - seek)
        if frames <= 0:
            return None
        lead = min(seek, MARGIN_FRAMES)
        first = (seek - lead) * FRAME_SAMPLES
        spectrogram, _ = self._features.window(samples[first:], lead, frames, is_end=True, loudest=_QUIET)
        return Window(seek, frames, spectrogram)

    def stop(self) -> None:
        """Makes what goes on in the request's thread end soon; the only method for other threads."""
        self._sound.stop()

    def close(self) -> None:
        """Closes the file."""
        self._sound.close()

    def _read_until(self, sample: int) -> None:
        while not self._ended and self._buffer.end < sample:
            piece = self._sound.read()
            if piece is None:
                self._ended = True
                return
            self._buffer.append(piece)


def _is_audible(samples: Samples) -> bool:
    return bool(len(samples)) and max(int(samples.max()), -int(samples.min())) > _SILENT_PEAK


class _Cutting:
    """The search for passages in one recording: holds back only what a passage may still need."""

    def __init__(self, activity: VoiceActivity, voice: VoiceModel) -> None:
        per_ms = RATE_HZ // 1000
        rules = Rules(activity.threshold, activity.prefix_padding_ms * per_ms, activity.silence_duration_ms * per_ms)
        self.ready: deque[tuple[Stretch, Samples]] = deque()
        self._detector = voice.listen()
        self._cutter = SpeechCutter(rules)
        self._gatherer = Gatherer() if activity.gathers else Gatherer(longest=0)
        self._buffer = _Buffer()
        self._spoken: deque[Samples] = deque()

    def feed(self, piece: Samples) -> None:
        """Takes the next sound."""
        self._buffer.append(piece)
        self._gather(self._cutter.feed(self._detector.feed(piece)))
        self._buffer.drop_before(self._cutter.needed_from)

    def finish(self) -> None:
        """Takes the end of the sound."""
        found = self._cutter.feed(self._detector.finish())
        self._gather(found + self._cutter.finish(self._buffer.end))
        for stretch in self._gatherer.finish():
            self._complete(stretch)

    def _gather(self, speech: list[Speech]) -> None:
        for part in speech:
            for stretch in self._gatherer.feed([part]):
                self._complete(stretch)
            self._spoken.append(self._buffer.cut(part.start, part.end).copy())

    def _complete(self, stretch: Stretch) -> None:
        samples = np.concatenate([self._spoken.popleft() for _ in stretch.parts])
        self.ready.append((stretch, samples))


class _Buffer:
    """The part of a recording that is held in memory; positions count from the recording's start."""

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._begin = 0
        self.end = 0
        """The first sample that is not there yet."""

    def append(self, piece: Samples) -> None:
        """Adds the next sound."""
        self._pieces.append(piece)
        self.end += len(piece)

    def drop_before(self, sample: int) -> None:
        """Forgets what lies before a sample, give or take a piece."""
        while self._pieces and self._begin + len(self._pieces[0]) <= sample:
            self._begin += len(self._pieces.popleft())

    def cut(self, start: int, end: int) -> Samples:
        """The sound from one sample up to another, or up to where it is there."""
        whole = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return whole[max(0, start - self._begin) : max(0, end - self._begin)]

    def take(self) -> list[Samples]:
        """All that is there, which is forgotten."""
        pieces, self._begin = list(self._pieces), self.end
        self._pieces.clear()
        return pieces
