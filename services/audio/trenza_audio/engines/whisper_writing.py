"""Turns what the model wrote about windows into timed segments and words of their requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trenza_audio.engines.whisper_model import Alignment, Vocabulary, Whisper
from trenza_audio.engines.whisper_request import Turn
from trenza_audio.hearing.core import words as timing
from trenza_audio.hearing.core.fallback import Attempt
from trenza_audio.hearing.core.segments import FRAMES_PER_S, Cut, cut
from trenza_audio.hearing.core.words import TimedSlice
from trenza_audio.hearing.engine import Segment, TokenLogprob, Word

_LEAST_PROBABILITY = 1e-30
"""What counts as the probability of a token that the model holds for impossible: logarithms have to be finite."""


class Writer:
    """Writes segments for turns whose text is settled."""

    def __init__(self, whisper: Whisper) -> None:
        self._whisper = whisper

    def take_over(self, turns: Sequence[Turn]) -> None:
        """Adds each turn's segments to its track and sends its request on. Raises OutOfMemory before it changes anything."""
        cuts = [_cut(turn, self._whisper.vocabulary) for turn in turns]
        alignments = self._align([(turn, one) for turn, one in zip(turns, cuts, strict=True) if one is not None])
        for turn, one in zip(turns, cuts, strict=True):
            if one is None:
                turn.hearing.heard(turn, turn.window.seek + turn.window.frames)
            else:
                self._write(turn, one, alignments.get(id(turn)))

    def _align(self, turns: Sequence[tuple[Turn, Cut]]) -> dict[int, Alignment]:
        """The alignments of turns that need them, by the turns' identity; one call for each language and task."""
        groups: dict[tuple[int, ...], list[tuple[Turn, list[int]]]] = {}
        for turn, one in turns:
            request = turn.hearing.request
            text = self._text_tokens(one)
            if text and (request.words or request.logprobs):
                start = tuple(self._whisper.vocabulary.start(turn.hearing.language, request.task))
                groups.setdefault(start, []).append((turn, text))
        alignments: dict[int, Alignment] = {}
        for start, members in groups.items():
            found = self._whisper.align(
                [turn.sound for turn, _ in members],
                start,
                [text for _, text in members],
                [turn.window.frames for turn, _ in members],
            )
            alignments.update({id(turn): one for (turn, _), one in zip(members, found, strict=True)})
        return alignments

    def _text_tokens(self, one: Cut) -> list[int]:
        return [token for piece in one.slices for token in self._whisper.vocabulary.text_tokens(piece.tokens)]

    def _write(self, turn: Turn, one: Cut, alignment: Alignment | None) -> None:
        track, request = turn.track, turn.hearing.request
        offset_s = turn.window.seek / FRAMES_PER_S
        next_seek = one.next_seek
        slices = [TimedSlice(piece.start_s, piece.end_s, piece.tokens, ()) for piece in one.slices]
        if request.words:
            slices = self._timed(turn, one, alignment)
            spoken_s = next((piece.words[-1].end_s for piece in reversed(slices) if piece.words), slices[-1].end_s)
            if not one.complete and spoken_s > offset_s:
                next_seek = round(spoken_s * FRAMES_PER_S)
            track.spoken_until_s = spoken_s
        logprobs = list(alignment.probabilities) if alignment and request.logprobs else []
        told: list[int] = []
        for piece in slices:
            count = len(self._whisper.vocabulary.text_tokens(piece.tokens))
            own, logprobs = logprobs[:count], logprobs[count:]
            text = self._whisper.vocabulary.decode(piece.tokens)
            if piece.start_s != piece.end_s and text.strip():
                track.segments.append(self._segment(turn, piece, text, own))
                told += piece.tokens
        track.remember(told, _text(turn).temperature)
        turn.hearing.heard(turn, next_seek)

    def _timed(self, turn: Turn, one: Cut, alignment: Alignment | None) -> list[TimedSlice]:
        vocabulary = self._whisper.vocabulary
        timed = []
        if alignment is not None:
            words = timing.split(self._text_tokens(one), turn.hearing.language, vocabulary.decode)
            timed = timing.time_words(words, alignment.path, alignment.probabilities)
        offset_s = turn.window.seek / FRAMES_PER_S
        return timing.lay_out(one.slices, timed, vocabulary.text_end, offset_s, turn.track.spoken_until_s)

    def _segment(self, turn: Turn, piece: TimedSlice, text: str, probabilities: Sequence[float]) -> Segment:
        attempt, stretch, vocabulary = _text(turn), turn.track.stretch, self._whisper.vocabulary

        def at_s(time_s: float, is_end: bool = False) -> float:
            return stretch.original_s(time_s, is_end) if stretch else time_s

        return Segment(
            start_s=at_s(piece.start_s),
            end_s=at_s(piece.end_s, is_end=True),
            text=text,
            tokens=piece.tokens,
            temperature=attempt.temperature,
            mean_logprob=attempt.mean_logprob,
            compression_ratio=attempt.compression_ratio,
            no_speech_probability=attempt.no_speech_probability,
            words=tuple(
                Word(word.text, at_s(word.start_s), at_s(word.end_s, is_end=True), word.probability)
                for word in piece.words
            ),
            logprobs=tuple(
                TokenLogprob(token, vocabulary.raw(token), math.log(max(probability, _LEAST_PROBABILITY)))
                for token, probability in zip(vocabulary.text_tokens(piece.tokens), probabilities, strict=False)
            ),
        )


def _text(turn: Turn) -> Attempt:
    assert turn.settled is not None
    return turn.settled


def _cut(turn: Turn, vocabulary: Vocabulary) -> Cut | None:
    """The turn's text cut into segments; None for silence."""
    attempt = _text(turn)
    if attempt.silent:
        return None
    return cut(attempt.tokens, vocabulary.timestamp_begin, turn.window.seek, turn.window.frames)
