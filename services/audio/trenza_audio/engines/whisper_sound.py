"""Decodes uploads with PyAV, piece by piece: whatever they hold, only seconds of it are in memory at a time.

The content decides what a file is, never its name. Only formats of the list below are opened, so that a file cannot name
other files or addresses to read from, as playlists do.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import av
import av.error
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.int16]

RATE_HZ = 16_000
MAX_SOURCE_RATE_HZ = 768_000
MAX_CHANNELS = 64
_FORMATS = "aac,aiff,amr,asf,caf,flac,matroska,mov,mp3,mpeg,mpegts,ogg,wav,w64"
"""FFmpeg's names: `mov` is mp4 and m4a too, `matroska` webm, `mp3` mpga, `ogg` opus."""
_MICROSECONDS = 1_000_000
_READ_FACTOR = 4
"""A file is read so many times over at most: damaged indexes make FFmpeg jump to and fro."""
_READ_SPARE_BYTES = 16 * 2**20
_BUFFER_BYTES = 2**16


class SoundError(Exception):
    """The file cannot be heard; the message says why, as a sentence."""


class SoundFile:
    """A file as 16 kHz mono sound. Used by one thread at a time; only `stop` may be called from another."""

    def __init__(self, path: str, limit_s: float) -> None:
        """Opens the file. `limit_s` is the longest sound that it may hold. Raises SoundError."""
        self._limit_samples = math.ceil(limit_s * RATE_HZ)
        self._limit_s = limit_s
        self._source = _Source(path)
        try:
            self._container = self._open()
            self._pieces = self._decode()
        except BaseException:
            self._source.close()
            raise
        self.duration_s = self._stated_s()
        """Length in seconds as the file states it; 0 where it does not, and not to be relied upon."""
        self.samples = 0
        """Samples read so far."""

    def read(self) -> Samples | None:
        """The next piece, about a second; None at the end. Raises SoundError."""
        piece = next(self._pieces, None)
        if piece is not None:
            self.samples += len(piece)
            if self.samples > self._limit_samples:
                raise SoundError(f"The sound is longer than {self._limit_s:g} seconds, the most that is accepted.")
        return piece

    def stop(self) -> None:
        """Makes whatever goes on in another thread end soon."""
        self._source.stopped.set()

    def close(self) -> None:
        """Closes the file."""
        self._container.close()
        self._source.close()

    def _open(self) -> Any:
        if not self._source.size_bytes:
            raise SoundError("The file is empty.")
        try:
            container = av.open(
                self._source,
                mode="r",
                metadata_errors="ignore",
                buffer_size=_BUFFER_BYTES,
                container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "none"},
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise SoundError("The file is no sound in a known format, or it is damaged.") from error
        if not container.streams.audio:
            container.close()
            raise SoundError("The file holds no sound.")
        return container

    def _stated_s(self) -> float:
        stated = self._container.duration
        return stated / _MICROSECONDS if stated and 0 < stated / _MICROSECONDS < 10 * self._limit_s else 0.0

    def _decode(self) -> Iterator[Samples]:
        """The sound in pieces. What cannot be decoded is left out, unless nothing is left."""
        converter: _Converter | None = None
        found = 0
        frames = _Frames(self._container)
        for frame in frames:
            _check(frame)
            if converter is None or not converter.takes(frame):
                if converter is not None:
                    yield from converter.finish()
                converter = _Converter(frame)
            found += frame.samples
            yield from converter.feed(frame)
        if converter is not None:
            yield from converter.finish()
        if not found and frames.failures:
            raise SoundError("Nothing in the file can be decoded.")


class _Source:
    """The file as FFmpeg reads it: without a name, and with an end to its patience."""

    def __init__(self, path: str) -> None:
        self.stopped = threading.Event()
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115  closed by `close`
        except OSError as error:
            raise SoundError("The upload is not there any more.") from error
        self.size_bytes = self._file.seek(0, 2)
        self._file.seek(0)
        self._left_bytes = _READ_FACTOR * self.size_bytes + _READ_SPARE_BYTES

    def read(self, count: int) -> bytes:
        """The next bytes; none at the end, once stopped, and when too much has been read."""
        if self.stopped.is_set() or self._left_bytes <= 0:
            return b""
        self._left_bytes -= count
        return self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _Frames:
    """The decoded frames of a container's first sound; `failures` counts what could not be decoded."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.failures = 0

    def __iter__(self) -> Iterator[AudioFrame]:
        stream = self._container.streams.audio[0]
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.error.InvalidDataError:
                self.failures += 1
            except (av.error.FFmpegError, ValueError):
                self.failures += 1  # a file that ends too soon: what was there counts
                return


def _check(frame: AudioFrame) -> None:
    if not 0 < frame.sample_rate <= MAX_SOURCE_RATE_HZ:
        raise SoundError(
            f"The sound has {frame.sample_rate} samples per second; at most {MAX_SOURCE_RATE_HZ} are read."
        )
    if not 0 < frame.layout.nb_channels <= MAX_CHANNELS:
        raise SoundError(f"The sound has {frame.layout.nb_channels} channels; at most {MAX_CHANNELS} are read.")


class _Converter:
    """Turns frames that are alike into 16 kHz mono, about a second at a time."""

    def __init__(self, like: AudioFrame) -> None:
        self._kind = _kind(like)
        self._piece_samples = like.sample_rate
        self._fifo = AudioFifo()
        self._resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        self._averages = False

    def takes(self, frame: AudioFrame) -> bool:
        """Whether the frame is like those before it."""
        return _kind(frame) == self._kind

    def feed(self, frame: AudioFrame) -> Iterator[Samples]:
        """Takes a frame; gives what is complete."""
        frame.pts = None  # frames follow one another, whatever a damaged file says
        self._fifo.write(frame)
        while self._fifo.samples >= self._piece_samples:
            yield from self._convert(self._fifo.read(self._piece_samples))

    def finish(self) -> Iterator[Samples]:
        """What is left."""
        if self._fifo.samples:
            yield from self._convert(self._fifo.read())
        yield from _arrays(self._resampler.resample(None))

    def _convert(self, frame: AudioFrame | None) -> Iterator[Samples]:
        if frame is None:
            return
        frame.pts = None
        if not self._averages:
            try:
                yield from _arrays(self._resampler.resample(frame))
                return
            except (av.error.FFmpegError, ValueError):
                # Nobody knows where these channels belong: they all count alike.
                self._averages = True
                self._resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        yield from _arrays(self._resampler.resample(_average(frame)))


def _kind(frame: AudioFrame) -> tuple[str, str, int, int]:
    return frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate


def _arrays(frames: list[AudioFrame]) -> Iterator[Samples]:
    for frame in frames:
        piece = frame.to_ndarray().reshape(-1)
        if len(piece):
            yield piece.astype(np.int16, copy=False)


def _average(frame: AudioFrame) -> AudioFrame:
    """The frame with one channel, the mean of all."""
    channels = frame.layout.nb_channels
    values: NDArray[Any] = frame.to_ndarray()
    values = values if frame.format.is_planar else values.reshape(-1, channels).T
    mean = values.astype(np.float64).mean(axis=0)
    if np.issubdtype(values.dtype, np.integer):
        mean /= np.iinfo(values.dtype).max
        if values.dtype == np.uint8:
            mean = mean * 2 - 1
    mono = AudioFrame.from_ndarray(mean.astype(np.float32)[np.newaxis, :], format="flt", layout="mono")
    mono.sample_rate = frame.sample_rate
    with suppress(AttributeError):
        mono.pts = None
    return mono
