"""Turns the engine's events into messages of the chat API, and keeps what a request used; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trenza.chat.v1 import chat_pb2 as pb
from trenza.common.v1 import common_pb2

from trenza_llama import engine as llama

_FINISH_REASONS = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


class Answer:
    """Collects what the choices of one request used, and turns their events into response messages."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._finished: list[llama.Finished] = []
        self._image_tokens = 0

    def chat_response(self, events: Iterable[tuple[int, object]]) -> pb.ChatResponse | None:
        """The next message of a conversation's answer; None where the events have nothing to tell the client."""
        deltas = [self._chat_delta(choice, event) for choice, event in events]
        told = [delta for delta in deltas if delta is not None]
        return pb.ChatResponse(deltas=told, fingerprint=self._take_fingerprint()) if told else None

    def complete_response(self, events: Iterable[tuple[int, object]]) -> pb.CompleteResponse | None:
        """The next message of a continuation; None where the events have nothing to tell the client."""
        told = []
        for choice, event in events:
            delta = self._chat_delta(choice, event)
            if delta is not None:
                told.append(
                    pb.CompleteDelta(
                        choice=choice,
                        text=delta.content,
                        logprobs=delta.logprobs,
                        finish_reason=delta.finish_reason,
                        stop_text=delta.stop_text,
                        token_count=delta.token_count,
                    )
                )
        return pb.CompleteResponse(deltas=told, fingerprint=self._take_fingerprint()) if told else None

    def usage(self) -> common_pb2.TokenUsage:
        """What all choices used together. They share one prompt, which counts once, as in OpenAI's API."""
        return common_pb2.TokenUsage(
            prompt_tokens=max((f.prompt_tokens for f in self._finished), default=0),
            cached_tokens=min((f.cached_tokens for f in self._finished), default=0),
            completion_tokens=sum(f.completion_tokens for f in self._finished),
            image_tokens=self._image_tokens,
        )

    def timings(self, queue_s: float) -> common_pb2.Timings:
        """Where the slowest choice's time went; `queue_s` is the wait for a place in front of the engine."""
        slowest = max((f.timings for f in self._finished), key=lambda t: t.prefill_s + t.decode_s, default=None)
        if slowest is None:
            return common_pb2.Timings(queue_s=queue_s)
        return common_pb2.Timings(
            queue_s=queue_s + slowest.queue_s, prefill_s=slowest.prefill_s, decode_s=slowest.decode_s
        )

    def _take_fingerprint(self) -> str:
        taken, self._fingerprint = self._fingerprint, ""
        return taken

    def _chat_delta(self, choice: int, event: object) -> pb.ChatDelta | None:
        match event:
            case llama.Started():
                self._image_tokens = event.image_tokens
                return None
            case llama.Delta():
                return pb.ChatDelta(
                    choice=choice,
                    content=event.text,
                    logprobs=_logprobs(event.logprobs),
                    token_count=event.token_count,
                )
            case llama.Finished():
                self._finished.append(event)
                return pb.ChatDelta(
                    choice=choice,
                    finish_reason=_FINISH_REASONS[event.finish_reason],
                    stop_text=event.stop_sequence or "",
                )
            case _:
                return None


def _logprobs(logprobs: Sequence[llama.TokenLogprob]) -> list[pb.TokenLogprob]:
    return [
        pb.TokenLogprob(
            token=one.text.decode("utf-8", "replace"),
            token_bytes=one.text,
            logprob=one.logprob,
            token_id=one.token,
            top=[
                pb.TopLogprob(
                    token=top.text.decode("utf-8", "replace"),
                    token_bytes=top.text,
                    logprob=top.logprob,
                    token_id=top.token,
                )
                for top in one.top
            ],
        )
        for one in logprobs
    ]
