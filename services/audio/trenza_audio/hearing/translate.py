"""Translates the audio API into requests of the hearing engine and its events back; pure, both ways."""

from __future__ import annotations

from typing import Generic, TypeVar

from grpc import StatusCode
from trenza.audio.v1 import audio_pb2 as pb
from trenza.common.v1 import common_pb2
from trenza_runtime.errors import Reason, RpcFault

from trenza_audio.hearing import engine
from trenza_audio.hearing.engine import Advanced, Finished, HearRequest, Segment, Started, VoiceActivity

ResponseT = TypeVar("ResponseT", pb.TranscribeResponse, pb.TranslateResponse)

MAX_CHUNK_BYTES = 2**20
"""Largest piece of an upload in one message."""


def invalid(param: str, message: str, reason: str = Reason.INVALID_ARGUMENT) -> RpcFault:
    """The fault for a field whose value cannot be honoured; `details["param"]` names the field."""
    return RpcFault(StatusCode.INVALID_ARGUMENT, reason, message, {"param": param})


def hear_request(config: pb.TranscriptionConfig, task: engine.Task, path: str) -> HearRequest:
    """The engine request for an upload that lies at `path`. Raises RpcFault (INVALID_ARGUMENT) naming the field that is wrong."""
    temperature = config.temperature if config.HasField("temperature") else None
    if temperature is not None and not 0 <= temperature <= 1:
        raise invalid("temperature", "temperature must be between 0 and 1.")
    if len(config.prompt) > engine.MAX_PROMPT_CHARS:
        raise invalid("prompt", f"A prompt has at most {engine.MAX_PROMPT_CHARS} characters.")
    hotwords = tuple(word.strip() for word in config.hotwords if word.strip())
    if len(hotwords) > engine.MAX_HOTWORDS or any(len(word) > engine.MAX_HOTWORD_CHARS for word in hotwords):
        message = f"At most {engine.MAX_HOTWORDS} hotwords of {engine.MAX_HOTWORD_CHARS} characters can be given."
        raise invalid("hotwords", message)
    return HearRequest(
        path=path,
        task=task,
        language=_language(config.language),
        prompt=config.prompt,
        temperature=temperature,
        words=pb.TIMESTAMP_GRANULARITY_WORD in config.timestamp_granularities,
        logprobs=config.include_logprobs,
        hotwords=hotwords,
        chunking=_chunking(config),
    )


def _language(asked: str) -> str:
    """ISO 639-1, or Whisper's three letters where that has none; a region behind it does not matter to hearing."""
    language = asked.strip().lower().replace("_", "-").partition("-")[0]
    if asked and not (2 <= len(language) <= 3 and language.isascii() and language.isalpha()):
        raise invalid("language", f"{asked[:64]!r} is no language code such as 'en'.")
    return language


def _chunking(config: pb.TranscriptionConfig) -> VoiceActivity | engine.Undecided:
    """Nothing said: in one go. A strategy without settings: the engine decides."""
    if not config.HasField("chunking_strategy"):
        return "none"
    strategy = config.chunking_strategy
    if strategy.WhichOneof("strategy") != "voice_activity":
        return "auto"
    asked = strategy.voice_activity
    usual = VoiceActivity()
    given = {field.name: value for field, value in asked.ListFields()}
    try:
        return VoiceActivity(
            threshold=given.get("threshold", usual.threshold),
            prefix_padding_ms=given.get("prefix_padding_ms", usual.prefix_padding_ms),
            silence_duration_ms=given.get("silence_duration_ms", usual.silence_duration_ms),
            gathers="silence_duration_ms" not in given,  # who says what ends a passage means it
        )
    except ValueError as error:
        raise invalid("chunking_strategy", f"{error}.") from None


class Answer(Generic[ResponseT]):
    """Collects one request's transcript and turns the engine's events into response messages."""

    def __init__(self, response: type[ResponseT]) -> None:
        self._response: type[ResponseT] = response
        self._texts: list[str] = []
        self.finished: Finished | None = None

    def message(self, event: object, queued_s: float) -> ResponseT:
        """The response for an event; `queued_s` is the wait for a place in front of the engine."""
        match event:
            case Started():
                started = pb.TranscriptStarted(
                    language=event.language,
                    language_probability=event.language_probability,
                    duration_s=event.duration_s,
                )
                return self._response(started=started)
            case Segment():
                segment = _segment(len(self._texts), event)
                self._texts.append(event.text)
                return self._response(segment=segment)
            case Advanced():
                return self._response(progress=_progress(event))
            case Finished():
                self.finished = event
                return self._response(summary=self._summary(event, queued_s))
        raise TypeError(f"the engine said {event!r}")

    def _summary(self, event: Finished, queued_s: float) -> pb.TranscriptSummary:
        return pb.TranscriptSummary(
            text="".join(self._texts).strip(),
            language=event.language,
            duration_s=event.duration_s,
            speech_s=event.speech_s,
            timings=common_pb2.Timings(
                queue_s=queued_s + event.queue_s, prefill_s=event.prefill_s, decode_s=event.decode_s
            ),
        )


def _progress(event: Advanced) -> common_pb2.Progress:
    """Steps are seconds of the sound."""
    fraction = min(1.0, event.done_s / event.total_s) if event.total_s else 0.0
    return common_pb2.Progress(fraction=fraction, step=round(event.done_s), steps=round(event.total_s))


def _segment(number: int, event: Segment) -> pb.TranscriptSegment:
    return pb.TranscriptSegment(
        id=number,
        start_s=event.start_s,
        end_s=event.end_s,
        text=event.text,
        tokens=event.tokens,
        temperature=event.temperature,
        mean_logprob=event.mean_logprob,
        compression_ratio=event.compression_ratio,
        no_speech_probability=event.no_speech_probability,
        words=[
            pb.TranscriptWord(word=one.text, start_s=one.start_s, end_s=one.end_s, probability=one.probability)
            for one in event.words
        ],
        logprobs=[
            pb.TranscriptLogprob(token=one.text.decode("utf-8", "replace"), token_bytes=one.text, logprob=one.logprob)
            for one in event.logprobs
        ],
    )
