"""Transcripts and translations: a replica's messages as OpenAI's answer, whole in five formats or streamed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from trenza.audio.v1 import audio_pb2

from trenza_gateway.openai.answers import AnswerError, finite
from trenza_gateway.openai.audio_languages import name_of
from trenza_gateway.openai.audio_requests import HearingBody
from trenza_gateway.openai.audio_subtitles import srt, vtt
from trenza_gateway.openai.encoding import event, json_bytes

Heard = audio_pb2.TranscribeResponse | audio_pb2.TranslateResponse
Task = Literal["transcribe", "translate"]

MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

FRAMES_PER_S = 100
"""Whisper counts `seek` in frames of its spectrogram."""
_DIGITS = 6
"""The figures are 32-bit floats, which say no more."""


class WholeTranscript:
    """Gathers a transcript."""

    def __init__(self, body: HearingBody, task: Task) -> None:
        self._body = body
        self._task = task
        self._segments: list[audio_pb2.TranscriptSegment] = []
        self._summary: audio_pb2.TranscriptSummary | None = None

    def add(self, message: Heard, part: int = 0) -> None:
        """Takes in the next message."""
        match message.WhichOneof("event"):
            case "segment":
                self._segments.append(message.segment)
            case "summary":
                self._summary = message.summary

    def body(self) -> bytes:
        """The answer. Raises AnswerError when the replica ended before all was said."""
        summary = _complete(self._summary)
        match self._body.response_format:
            case "text":
                return f"{summary.text.strip()}\n".encode()
            case "srt":
                return srt(self._segments).encode()
            case "vtt":
                return vtt(self._segments).encode()
            case "verbose_json":
                return json_bytes(self._verbose(summary))
            case _:
                return json_bytes(self._plain(summary))

    def _plain(self, summary: audio_pb2.TranscriptSummary) -> dict[str, Any]:
        answer: dict[str, Any] = {"text": summary.text.strip()}
        if self._body.wants_logprobs:
            answer["logprobs"] = _logprobs(entry for segment in self._segments for entry in segment.logprobs)
        return {**answer, "usage": _usage(summary)}

    def _verbose(self, summary: audio_pb2.TranscriptSummary) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "task": self._task,
            "language": "english" if self._task == "translate" else name_of(summary.language),
            "duration": _rounded(summary.duration_s),
            "text": summary.text.strip(),
        }
        if self._body.wants_segments:
            answer["segments"] = [_segment(segment) for segment in self._segments]
        if self._body.wants_words:
            answer["words"] = [_word(word) for segment in self._segments for word in segment.words]
        return {**answer, "usage": _usage(summary)}


class StreamedTranscript:
    """Turns a replica's messages into events: a delta for each segment, and at the end the whole text."""

    def __init__(self, body: HearingBody) -> None:
        self._with_logprobs = body.wants_logprobs
        self._begun = False
        self._logprobs: list[dict[str, Any]] = []
        self._summary: audio_pb2.TranscriptSummary | None = None

    def frames(self, message: Heard, part: int = 0) -> bytes:
        """The events of the next message; empty where it shows nothing."""
        match message.WhichOneof("event"):
            case "segment":
                return self._delta(message.segment)
            case "summary":
                self._summary = message.summary
        return b""

    def end(self) -> bytes:
        """The event that ends the stream. Raises AnswerError when the replica ended before all was said."""
        summary = _complete(self._summary)
        done: dict[str, Any] = {"type": "transcript.text.done", "text": summary.text.strip()}
        if self._with_logprobs:
            done["logprobs"] = self._logprobs
        return event({**done, "usage": _usage(summary)})

    def _delta(self, segment: audio_pb2.TranscriptSegment) -> bytes:
        text = segment.text if self._begun else segment.text.lstrip()
        if not text:
            return b""
        self._begun = True
        delta: dict[str, Any] = {"type": "transcript.text.delta", "delta": text}
        if self._with_logprobs:
            delta["logprobs"] = _logprobs(segment.logprobs)
            self._logprobs.extend(delta["logprobs"])
        return event(delta)


def _complete(summary: audio_pb2.TranscriptSummary | None) -> audio_pb2.TranscriptSummary:
    if summary is None:
        raise AnswerError("the replica ended the transcript before its summary")
    return summary


def _segment(segment: audio_pb2.TranscriptSegment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "seek": round(segment.start_s * FRAMES_PER_S),
        "start": _rounded(segment.start_s),
        "end": _rounded(segment.end_s),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": _rounded(segment.temperature),
        "avg_logprob": _rounded(finite(segment.mean_logprob)),
        "compression_ratio": _rounded(segment.compression_ratio),
        "no_speech_prob": _rounded(segment.no_speech_probability),
    }


def _word(word: audio_pb2.TranscriptWord) -> dict[str, Any]:
    return {"word": word.word.strip(), "start": _rounded(word.start_s), "end": _rounded(word.end_s)}


def _logprobs(entries: Iterable[audio_pb2.TranscriptLogprob]) -> list[dict[str, Any]]:
    return [
        {"token": entry.token, "logprob": _rounded(finite(entry.logprob)), "bytes": list(entry.token_bytes)}
        for entry in entries
    ]


def _usage(summary: audio_pb2.TranscriptSummary) -> dict[str, Any]:
    return {"type": "duration", "seconds": _rounded(summary.duration_s)}


def _rounded(figure: float) -> float:
    return round(figure, _DIGITS)
