"""Times words: from the alignment of tokens with sound to the start and end of each word, as faster-whisper does."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from trenza_audio.hearing.core.segments import Slice

TOKENS_PER_S = 50
"""Steps of the alignment per second."""
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"
_SENTENCE_ENDS = ".。!！?？"
_LONGEST_USUAL_S = 0.7
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages whose words are not parted by spaces: every character counts as one."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Timed:
    """A word with its tokens; times in seconds."""

    text: str
    tokens: tuple[int, ...]
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class TimedSlice:
    """A slice with its words; its own times follow theirs."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]
    words: tuple[Timed, ...]


def split(tokens: Sequence[int], language: str, decode: Callable[[Sequence[int]], str]) -> list[tuple[str, list[int]]]:
    """The words of some text tokens, each with its tokens."""
    characters = _split_at_characters(tokens, decode)
    return characters if language in _UNSPACED else _join_at_spaces(characters)


def _split_at_characters(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[tuple[str, list[int]]]:
    """The shortest runs of tokens that are whole characters."""
    whole = decode(tokens)
    pieces: list[tuple[str, list[int]]] = []
    current: list[int] = []
    offset = 0
    for token in tokens:
        current.append(token)
        text = decode(current)
        broken = text.find(_REPLACEMENT)
        if broken < 0 or whole[offset + broken : offset + broken + 1] == _REPLACEMENT:
            pieces.append((text, current))
            offset += len(text)
            current = []
    return pieces


def _join_at_spaces(pieces: Sequence[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    words: list[tuple[str, list[int]]] = []
    for text, tokens in pieces:
        if not words or text.startswith(" ") or text.strip() in string.punctuation:
            words.append((text, tokens))
        else:
            words[-1] = (words[-1][0] + text, words[-1][1] + tokens)
    return words


def time_words(
    words: Sequence[tuple[str, list[int]]], path: Sequence[tuple[int, int]], probabilities: Sequence[float]
) -> list[Timed]:
    """Gives words their times. `path` pairs tokens with steps of the sound, in order; times count from the window's start."""
    jumps = [step for index, (token, step) in enumerate(path) if index == 0 or token != path[index - 1][0]]
    timed: list[Timed] = []
    first = 0
    for text, tokens in words:
        last = first + len(tokens)
        if last >= len(jumps):
            break  # the alignment ends here: a broken text at the end has no time
        mean = sum(probabilities[first:last]) / len(tokens)
        timed.append(Timed(text, tuple(tokens), jumps[first] / TOKENS_PER_S, jumps[last] / TOKENS_PER_S, mean))
        first = last
    return timed


def usual_s(words: Sequence[Timed]) -> float:
    """The usual length of a word here, in seconds."""
    lengths = [word.end_s - word.start_s for word in words if word.end_s != word.start_s]
    return min(_LONGEST_USUAL_S, median(lengths)) if lengths else 0.0


def tidy(words: Sequence[Timed]) -> list[Timed]:
    """Cuts words that last too long at the ends of sentences, and joins punctuation with the words that it touches."""
    longest_s = 2 * usual_s(words)
    tidied = list(words)
    for index in range(1, len(tidied)):
        word = tidied[index]
        if not longest_s or word.end_s - word.start_s <= longest_s:
            continue
        if word.text in _SENTENCE_ENDS:
            tidied[index] = replace(word, end_s=word.start_s + longest_s)
        elif tidied[index - 1].text in _SENTENCE_ENDS:
            tidied[index] = replace(word, start_s=word.end_s - longest_s)
    return _append_punctuation(_prepend_punctuation(tidied))


def _prepend_punctuation(words: list[Timed]) -> list[Timed]:
    following = len(words) - 1
    for index in range(len(words) - 2, -1, -1):
        word = words[index]
        if word.text.startswith(" ") and word.text.strip() in _PREPENDED:
            after = words[following]
            words[following] = replace(after, text=word.text + after.text, tokens=word.tokens + after.tokens)
            words[index] = replace(word, text="", tokens=())
        else:
            following = index
    return words


def _append_punctuation(words: list[Timed]) -> list[Timed]:
    previous = 0
    for index in range(1, len(words)):
        word, before = words[index], words[previous]
        if not before.text.endswith(" ") and word.text in _APPENDED:
            words[previous] = replace(before, text=before.text + word.text, tokens=before.tokens + word.tokens)
            words[index] = replace(word, text="", tokens=())
        else:
            previous = index
    return words


def lay_out(
    slices: Sequence[Slice], words: Sequence[Timed], text_end: int, offset_s: float, spoken_until_s: float
) -> list[TimedSlice]:
    """Deals the words of a window, in order, to its slices.

    `text_end` is the first token that is not text; `offset_s` is where the window begins; until `spoken_until_s` the
    window before it was spoken.
    """
    usual = usual_s(words)
    tidied = tidy(words)
    laid: list[TimedSlice] = []
    position = 0
    for piece in slices:
        wanted = sum(token < text_end for token in piece.tokens)
        own: list[Timed] = []
        while position < len(tidied) and wanted > 0:
            word = tidied[position]
            if word.text:
                start_s, end_s = round(offset_s + word.start_s, 2), round(offset_s + word.end_s, 2)
                own.append(replace(word, start_s=start_s, end_s=end_s))
            wanted -= len(word.tokens)
            position += 1
        timed = _fit(piece, own, usual, spoken_until_s)
        spoken_until_s = timed.end_s if timed.words else spoken_until_s
        laid.append(timed)
    return laid


def _fit(piece: Slice, words: list[Timed], usual: float, spoken_until_s: float) -> TimedSlice:
    """Makes a slice and its words agree: words after a pause are not stretched into it, nor beyond the slice's ends."""
    if not words:
        return TimedSlice(piece.start_s, piece.end_s, piece.tokens, ())
    words = _shorten_after_pause(words, usual, spoken_until_s)
    first = words[0]
    start_s = first.start_s
    if piece.start_s < first.end_s and piece.start_s - 0.5 > first.start_s:
        start_s = piece.start_s
        words[0] = replace(first, start_s=max(0.0, min(first.end_s - usual, piece.start_s)))
    last = words[-1]
    end_s = last.end_s
    if piece.end_s > last.start_s and piece.end_s + 0.5 < last.end_s:
        end_s = piece.end_s
        words[-1] = replace(last, end_s=max(last.start_s + usual, piece.end_s))
    return TimedSlice(start_s, end_s, piece.tokens, tuple(words))


def _shorten_after_pause(words: list[Timed], usual: float, spoken_until_s: float) -> list[Timed]:
    longest_s = 2 * usual
    first = words[0]
    second = words[1] if len(words) > 1 else None
    stretched = first.end_s - first.start_s > longest_s or (
        second is not None and second.end_s - first.start_s > 2 * longest_s
    )
    if first.end_s - spoken_until_s <= 4 * usual or not stretched:
        return words
    end_s = first.end_s
    if second is not None and second.end_s - second.start_s > longest_s:
        end_s = max(second.end_s / 2, second.end_s - longest_s)
        words[1] = replace(second, start_s=end_s)
    words[0] = replace(first, start_s=max(0.0, end_s - longest_s), end_s=end_s)
    return words
