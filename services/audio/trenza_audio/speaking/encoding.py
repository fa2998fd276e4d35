"""Sound as it is made, encoded as it goes: every format of the speech endpoint, and a change of tempo without one of pitch."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from trenza_audio.speaking.engine import OPUS_RATE_HZ, SAMPLE_RATE_HZ, SoundFormat

Samples = NDArray[np.int16]
"""Mono sound."""

_UNKNOWN_SIZE = 0xFFFFFFFF
"""What a WAV file says that is still being written; players read it to its end."""
_PIECE_SAMPLES = 24_000
"""What is encoded in one go, so that a long piece costs no more memory than a short one."""
_ATEMPO = (0.5, 2.0)
"""How far one filter changes the tempo well; beyond that several stand in a row."""


@dataclass(frozen=True)
class _Codec:
    container: str
    codec: str
    bit_rate: int
    rate_hz: int = SAMPLE_RATE_HZ
    container_options: Mapping[str, str] = field(default_factory=dict)
    codec_options: Mapping[str, str] = field(default_factory=dict)


_CODECS: Mapping[str, _Codec] = {
    "mp3": _Codec("mp3", "libmp3lame", 96_000, container_options={"write_xing": "0", "id3v2_version": "0"}),
    "opus": _Codec("ogg", "libopus", 48_000, OPUS_RATE_HZ, {"page_duration": "200000"}),
    "aac": _Codec("adts", "aac", 96_000, codec_options={"aac_coder": "fast"}),
    "flac": _Codec("flac", "flac", 0),
}


class Encoder(Protocol):
    """Takes sound in pieces of any length; what `feed` and `end` return is one stream of bytes."""

    def feed(self, samples: Samples) -> bytes:
        """Encodes the next samples; returns the bytes that are ready."""

    def end(self) -> bytes:
        """Returns the last bytes; nothing may be fed afterwards."""


def encoder_for(sound_format: SoundFormat, source_rate_hz: int) -> Encoder:
    """An encoder for mono sound of that many samples per second."""
    if sound_format in _CODECS:
        return _Compressed(_CODECS[sound_format], source_rate_hz)
    return _Plain(source_rate_hz, header=_wav_header() if sound_format == "wav" else b"")


class _Plain:
    """Bare samples, behind a header or not."""

    def __init__(self, source_rate_hz: int, header: bytes) -> None:
        self._header = header
        self._source_rate_hz = source_rate_hz
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)

    def feed(self, samples: Samples) -> bytes:
        parts = [self._take_header()]
        for frame in _frames(samples, self._source_rate_hz):
            parts += [_bytes_of(out) for out in self._resampler.resample(frame)]
        return b"".join(parts)

    def end(self) -> bytes:
        return self._take_header() + b"".join(_bytes_of(out) for out in self._resampler.resample(None))

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


class _Compressed:
    """What a codec makes, in its container."""

    def __init__(self, codec: _Codec, source_rate_hz: int) -> None:
        self._source_rate_hz = source_rate_hz
        self._position = 0
        self._sink = _Sink()
        # What is ready goes out at once: the first bytes are worth more than a well-filled buffer.
        options = {"flush_packets": "1", **codec.container_options}
        self._container = av.open(self._sink, "w", format=codec.container, options=options)
        stream = self._container.add_stream(
            codec.codec, rate=codec.rate_hz, layout="mono", options=dict(codec.codec_options)
        )
        assert isinstance(stream, AudioStream)
        self._stream = stream
        if codec.bit_rate:
            self._stream.bit_rate = codec.bit_rate

    def feed(self, samples: Samples) -> bytes:
        for frame in _frames(samples, self._source_rate_hz):
            frame.pts = self._position
            frame.time_base = Fraction(1, self._source_rate_hz)
            self._position += frame.samples
            self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def end(self) -> bytes:
        if self._position:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()


class _Sink:
    """A file that cannot be rewound, as a connection is."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, piece: bytes) -> int:
        self._bytes += piece
        return len(piece)

    def take(self) -> bytes:
        taken, self._bytes = bytes(self._bytes), bytearray()
        return taken


class Tempo:
    """Makes speech faster (factor above 1) or slower, at its own pitch."""

    def __init__(self, factor: float, rate_hz: int) -> None:
        """Raises ValueError for a factor that is not above 0."""
        self._rate_hz = rate_hz
        self._position = 0
        self._graph = av.filter.Graph()
        source = self._graph.add_abuffer(
            sample_rate=rate_hz, format="s16", layout="mono", time_base=Fraction(1, rate_hz)
        )
        filters = [self._graph.add("atempo", f"{part:.6f}") for part in _tempo_steps(factor)]
        self._graph.link_nodes(source, *filters, self._graph.add("abuffersink")).configure()

    def feed(self, samples: Samples) -> Samples:
        """Takes the next samples; returns those that are ready."""
        ready: list[Samples] = []
        for frame in _frames(samples, self._rate_hz):
            frame.pts = self._position
            frame.time_base = Fraction(1, self._rate_hz)
            self._position += frame.samples
            self._graph.push(frame)
            ready += self._pull()
        return _joined(ready)

    def end(self) -> Samples:
        """Returns the last samples; nothing may be fed afterwards."""
        if not self._position:
            return _joined([])
        self._graph.push(None)
        return _joined(list(self._pull()))

    def _pull(self) -> Iterator[Samples]:
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.AudioFrame)
            yield frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)


def _tempo_steps(factor: float) -> list[float]:
    if factor <= 0:
        raise ValueError("the tempo must be above 0")
    steps = []
    while not _ATEMPO[0] <= factor <= _ATEMPO[1]:
        step = min(max(factor, _ATEMPO[0]), _ATEMPO[1])
        steps.append(step)
        factor /= step
    return [*steps, factor]


def _frames(samples: Samples, rate_hz: int) -> Iterator[av.AudioFrame]:
    for begin in range(0, len(samples), _PIECE_SAMPLES):
        piece = np.ascontiguousarray(samples[begin : begin + _PIECE_SAMPLES]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
        frame.sample_rate = rate_hz
        yield frame


def _joined(parts: list[Samples]) -> Samples:
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def _bytes_of(frame: av.AudioFrame) -> bytes:
    return frame.to_ndarray().astype("<i2", copy=False).tobytes()


def _wav_header() -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * 2, 2, 16)
    head = struct.pack("<4sI4s4sI", b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", len(form))
    return head + form + struct.pack("<4sI", b"data", _UNKNOWN_SIZE)
