"""Subtitles: SubRip and WebVTT files of a transcript."""

from __future__ import annotations

from collections.abc import Sequence

from trenza.audio.v1 import audio_pb2


def srt(segments: Sequence[audio_pb2.TranscriptSegment]) -> str:
    """The segments as a SubRip file; empty where nothing is said."""
    cues = (
        f"{number}\n{_span(segment, ',')}\n{_line(segment.text).replace('-->', '->')}\n"
        for number, segment in enumerate(segments, start=1)
    )
    return "\n".join(cues)


def vtt(segments: Sequence[audio_pb2.TranscriptSegment]) -> str:
    """The segments as a WebVTT file."""
    cues = (f"{_span(segment, '.')}\n{_escaped(_line(segment.text))}\n" for segment in segments)
    return "\n".join(("WEBVTT\n", *cues))


def _line(text: str) -> str:
    """One line: an empty line would end the cue."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _span(segment: audio_pb2.TranscriptSegment, decimal_mark: str) -> str:
    end_s = max(segment.start_s, segment.end_s)
    return f"{_clock(segment.start_s, decimal_mark)} --> {_clock(end_s, decimal_mark)}"


def _clock(seconds: float, decimal_mark: str) -> str:
    minutes, milliseconds = divmod(round(max(0.0, seconds) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{decimal_mark}{milliseconds % 1000:03}"
