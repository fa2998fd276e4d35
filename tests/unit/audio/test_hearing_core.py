"""Hearing's decisions, as tables."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import faster_whisper.vad as silero
import numpy as np
import pytest
from trenza_audio.hearing.core.fallback import FALLBACK_TEMPERATURES, Attempt, settle, temperatures
from trenza_audio.hearing.core.placement import NoPlace, Placement, gpu_bytes, place
from trenza_audio.hearing.core.prompts import MAX_HISTORY_TOKENS, Prompt, prompt, share_calls
from trenza_audio.hearing.core.segments import MIN_ADVANCE_FRAMES, Slice, advanced, compression_ratio, cut
from trenza_audio.hearing.core.turns import Standing, choose, fitting_batch
from trenza_audio.hearing.core.voice import LONGEST_SAMPLES, Gatherer, Rules, Speech, SpeechCutter, Stretch
from trenza_audio.hearing.core.words import Timed, lay_out, split, tidy, time_words

TEXT_END, ZERO = 100, 200
"""Tokens below 100 are text; 200 is the timestamp 0.00, 201 is 0.02."""
GIB = 2**30


def at(seconds: float) -> int:
    return ZERO + round(seconds / 0.02)


CUTS: dict[str, tuple[list[int], list[Slice], int]] = {
    "one segment, closed": ([at(0), 1, 2, at(3)], [Slice(10, 13, (at(0), 1, 2, at(3)))], 2000),
    "two segments, closed": (
        [at(0), 1, at(2), at(2.5), 2, at(4)],
        [Slice(10, 12, (at(0), 1, at(2))), Slice(12.5, 14, (at(2.5), 2, at(4)))],
        2000,
    ),
    "the second is cut off": (
        [at(0), 1, at(2), at(2), 2],
        [Slice(10, 12, (at(0), 1, at(2)))],
        1000 + 200,
    ),
    "both ends said": (
        [at(0), 1, at(2), at(2), 2, at(4), at(4)],
        [Slice(10, 12, (at(0), 1, at(2))), Slice(12, 14, (at(2), 2, at(4)))],
        1000 + 400,
    ),
    "no timestamps": ([1, 2], [Slice(10, 20, (1, 2))], 2000),
    "nothing": ([], [Slice(10, 20, ())], 2000),
    "only a beginning": ([at(0), 1, 2], [Slice(10, 20, (at(0), 1, 2))], 2000),
}


@pytest.mark.parametrize("case", CUTS)
def test_timestamps_cut_a_window_into_segments(case: str) -> None:
    tokens, slices, next_seek = CUTS[case]
    got = cut(tokens, ZERO, seek=1000, window_frames=1000)
    assert [one.tokens for one in got.slices] == [one.tokens for one in slices]
    times = [time_s for one in got.slices for time_s in (one.start_s, one.end_s)]
    assert times == pytest.approx([time_s for one in slices for time_s in (one.start_s, one.end_s)])
    assert got.next_seek == next_seek


def test_a_window_always_brings_a_request_forward() -> None:
    stuck = cut([at(0), at(0), 1], ZERO, seek=700, window_frames=1000)
    assert stuck.next_seek == 700
    assert advanced(700, stuck.next_seek) == 700 + MIN_ADVANCE_FRAMES
    assert advanced(700, 900) == 900


def test_repetition_compresses_well() -> None:
    assert compression_ratio("the same words " * 30) > 2.4 > compression_ratio("a short and ordinary sentence")
    assert compression_ratio("") == 0


def attempt(temperature: float, logprob: float = -0.5, ratio: float = 1.0, no_speech: float = 0.1) -> Attempt:
    return Attempt(temperature, (1, 2), logprob, ratio, no_speech)


SETTLED: dict[str, tuple[list[Attempt], float | None]] = {
    "good at once": ([attempt(0)], 0.0),
    "unsure": ([attempt(0, logprob=-1.1)], None),
    "repetitive": ([attempt(0, ratio=2.5)], None),
    "repetitive, but nobody speaks": ([attempt(0, logprob=-1.1, ratio=2.5, no_speech=0.7)], 0.0),
    "repetitive and sure, nobody speaks": ([attempt(0, ratio=2.5, no_speech=0.7)], None),
    "good later": ([attempt(0, ratio=2.5), attempt(0.2)], 0.2),
}


@pytest.mark.parametrize("case", SETTLED)
def test_a_text_is_settled_or_tried_again(case: str) -> None:
    attempts, temperature = SETTLED[case]
    settled = settle(attempts, FALLBACK_TEMPERATURES)
    assert (settled.temperature if settled else None) == temperature


def test_when_all_fail_the_surest_that_does_not_repeat_itself_counts() -> None:
    attempts = [attempt(t, logprob=-3 + t, ratio=1 + 2 * (t > 0.5)) for t in FALLBACK_TEMPERATURES]
    settled = settle(attempts, FALLBACK_TEMPERATURES)
    assert settled is not None
    assert (settled.temperature, settled.mean_logprob) == (1.0, -2.6)
    repetitive = [attempt(t, logprob=-3 + t, ratio=5) for t in FALLBACK_TEMPERATURES]
    assert settle(repetitive, FALLBACK_TEMPERATURES) == attempt(1.0, logprob=-2.0, ratio=5)
    assert settle([attempt(0.3, logprob=-9)], temperatures(0.3)) == attempt(0.3, logprob=-9)


@pytest.mark.parametrize(
    ("logprob", "no_speech", "silent"), [(-1.5, 0.7, True), (-0.5, 0.7, False), (-1.5, 0.5, False), (-1.0, 0.61, True)]
)
def test_silence_is_where_nobody_speaks_and_the_model_is_not_sure(
    logprob: float, no_speech: float, silent: bool
) -> None:
    assert attempt(0, logprob=logprob, no_speech=no_speech).silent == silent


def test_prompts_say_no_more_than_the_model_takes() -> None:
    full = prompt(9, [5, 6], range(1000), [7] * 20)
    assert len(full.hotwords) + len(full.history) == MAX_HISTORY_TOKENS
    assert full.history[-1] == 999
    assert full.shortened(full.lead) == [9, *[7] * 20, *range(1000 - 203, 1000), 5, 6]
    assert prompt(9, [5], []).shortened(0) == [5]
    assert prompt(9, [5], [1], [7] * 500).history == ()


def history(tokens: int) -> Prompt:
    return prompt(9, [5, 6], list(range(tokens)))


SHARES: dict[str, tuple[list[int], list[tuple[int, int]]]] = {
    "alone": ([100], [(101, 1)]),
    "all new": ([0, 0, 0], [(0, 3)]),
    "new ones and one that goes on": ([0, 50, 0], [(51, 1), (0, 2)]),
    "near ones share": ([100, 80, 60], [(61, 3)]),
    "nobody gives up more than half": ([100, 49], [(101, 1), (50, 1)]),
    "full ones lose nothing": ([223, 223, 223, 0], [(224, 3), (0, 1)]),
    "a chain is not a group": ([200, 120, 70], [(121, 2), (71, 1)]),
}


@pytest.mark.parametrize("case", SHARES)
def test_prompts_share_calls_where_they_lose_little(case: str) -> None:
    lengths, expected = SHARES[case]
    prompts = {index: history(length) for index, length in enumerate(lengths)}
    calls = share_calls(prompts)
    assert sorted((lead, len(members)) for lead, members in calls) == sorted(expected)
    for lead, members in calls:
        for member in members:
            tokens = prompts[member].shortened(lead)
            assert len(tokens) == lead + 2
            assert tokens[-2:] == [5, 6]
            kept = tokens[1:-2]
            assert kept == list(prompts[member].history)[len(prompts[member].history) - len(kept) :]
            assert 2 * len(kept) >= len(prompts[member].history)


TURNS: dict[str, tuple[list[Standing], int, dict[str, int]]] = {
    "one each, then the rest": ([Standing("long", 9, 3), Standing("short", 1, -1)], 4, {"short": 1, "long": 3}),
    "too many": (
        [Standing("a", 1, 5), Standing("b", 1, 4), Standing("c", 1, -1)],
        2,
        {"c": 1, "b": 1},
    ),
    "alike: in order of arrival": (
        [Standing("a", 1, 1), Standing("b", 1, 1), Standing("c", 1, 1)],
        2,
        {"a": 1, "b": 1},
    ),
    "nothing ready": ([Standing("a", 0, 1)], 8, {}),
    "rounds": ([Standing("a", 2, 1), Standing("b", 5, 1), Standing("c", 1, 1)], 6, {"a": 2, "b": 3, "c": 1}),
    "no requests": ([], 8, {}),
}


@pytest.mark.parametrize("case", TURNS)
def test_requests_take_turns(case: str) -> None:
    standings, room, expected = TURNS[case]
    assert choose(standings, room) == expected


def test_no_request_waits_longer_than_a_round() -> None:
    draw = random.Random(5)
    served = {str(name): -1 for name in range(20)}
    for step in range(200):
        chosen = choose([Standing(name, draw.randrange(1, 9), at) for name, at in served.items()], 6)
        assert sum(chosen.values()) == 6
        served.update(dict.fromkeys(chosen, step))
        assert step < 4 or min(served.values()) >= step - 4


@pytest.mark.parametrize(
    ("windows", "seconds", "batch"), [(1, 0.0, 8), (8, 4.0, 8), (1, 5.0, 4), (8, 80.0, 2), (2, 15.0, 2), (1, 60.0, 1)]
)
def test_slow_devices_get_smaller_batches(windows: int, seconds: float, batch: int) -> None:
    assert fitting_batch(8, windows, seconds) == batch


CPU_TYPES, GPU_TYPES = {"int8", "float32", "int8_float32"}, {"float16", "int8", "float32"}
PLACES: dict[str, tuple[dict[str, Any], Placement | str]] = {
    "no GPU": ({"free": {}, "gpu": False}, Placement("cpu", 0, "int8")),
    "room on the GPU": ({"free": {"cuda:0": 8 * GIB}}, Placement("cuda", 0, "float16")),
    "the emptier GPU": ({"free": {"cuda:0": 8 * GIB, "cuda:1": 9 * GIB}}, Placement("cuda", 1, "float16")),
    "the first of equal ones": ({"free": {"cuda:0": 9 * GIB, "cuda:1": 9 * GIB}}, Placement("cuda", 0, "float16")),
    "a full GPU": ({"free": {"cuda:0": GIB}}, Placement("cpu", 0, "int8")),
    "just enough": ({"free": {"cuda:0": gpu_bytes(3 * GIB, 8)}}, Placement("cuda", 0, "float16")),
    "one byte short": ({"free": {"cuda:0": gpu_bytes(3 * GIB, 8) - 1}}, Placement("cpu", 0, "int8")),
    "a GPU that nobody can measure": ({"free": {}}, Placement("cpu", 0, "int8")),
    "the CPU is wanted": ({"free": {"cuda:0": 80 * GIB}, "wanted": "cpu"}, Placement("cpu", 0, "int8")),
    "a GPU is wanted and full": (
        {"free": {"cuda:0": GIB}, "wanted": "cuda"},
        "it needs 4824 MiB on a GPU, and 1024 MiB are free",
    ),
    "a GPU is wanted and missing": ({"free": {}, "gpu": False, "wanted": "cuda"}, "there is no GPU"),
    "a GPU is wanted that nobody can measure": ({"free": {}, "wanted": "cuda"}, Placement("cuda", 0, "float16")),
    "numbers for the GPU, which is full": ({"free": {"cuda:0": GIB}, "kind": "float16"}, Placement("cpu", 0, "int8")),
    "numbers for both, the GPU is full": ({"free": {"cuda:0": GIB}, "kind": "float32"}, Placement("cpu", 0, "float32")),
    "numbers that are asked for": ({"free": {"cuda:0": 8 * GIB}, "kind": "float32"}, Placement("cuda", 0, "float32")),
    "numbers that it cannot compute": (
        {"free": {}, "gpu": False, "kind": "float16"},
        "float16 cannot be computed on the CPU; float32, int8, int8_float32 can",
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_the_device_follows_the_free_memory(case: str) -> None:
    given, expected = PLACES[case]
    supported = {"cpu": CPU_TYPES, **({"cuda": GPU_TYPES} if given.get("gpu", True) else {})}
    got = place(given.get("wanted", "auto"), given.get("kind", "auto"), 3 * GIB, 8, given["free"], supported)
    assert got == (NoPlace(expected) if isinstance(expected, str) else expected)


def test_speech_begins_and_ends_where_silero_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against faster-whisper's own function, which looks at the whole sound at once, under made-up probabilities."""
    draw = random.Random(1)
    for _ in range(150):
        pieces = draw.randrange(1, 3000)
        samples = pieces * 512 - draw.randrange(1, 513)
        values: list[float] = []
        while len(values) < pieces:
            level = draw.choice([0.05, 0.2, 0.34, 0.36, 0.49, 0.5, 0.6, 0.9])
            length = draw.choice([1, 2, 3, 5, 8, 20, 100, 600, 1200])
            values += [level + draw.uniform(-0.04, 0.04) for _ in range(length)]
        values = values[:pieces]
        padding, silence = draw.choice([0, 30, 100, 400, 1500]), draw.choice([0, 32, 96, 128, 160, 500, 2000])
        options = silero.VadOptions(max_speech_duration_s=30, min_silence_duration_ms=silence, speech_pad_ms=padding)
        monkeypatch.setattr(silero, "get_vad_model", lambda values=values: lambda audio: np.array(values))
        expected = [(one["start"], one["end"]) for one in silero.get_speech_timestamps(np.zeros(samples), options)]
        assert cut_in_parts(values, samples, padding, silence, draw) == expected


def cut_in_parts(
    values: Sequence[float], samples: int, padding_ms: int, silence_ms: int, draw: random.Random
) -> list[tuple[int, int]]:
    """The speech found when the probabilities come bit by bit; checks that no sound is needed that was given up."""
    cutter = SpeechCutter(Rules(0.5, padding_ms * 16, silence_ms * 16))
    found: list[Speech] = []
    position = kept_from = 0
    while position < len(values):
        step = draw.choice([1, 3, 50, 1000])
        speech = cutter.feed(values[position : position + step])
        assert all(one.start >= kept_from for one in speech)
        kept_from, position = cutter.needed_from, position + step
        found += speech
    last = cutter.finish(samples)
    assert all(one.start >= kept_from for one in last)
    return [(one.start, one.end) for one in [*found, *last]]


def test_speech_is_gathered_into_what_the_model_hears_at_once() -> None:
    gatherer = Gatherer()
    second = 16_000
    parts = [Speech(index * 20 * second, (index * 20 + 12) * second) for index in range(5)]
    full = [stretch for part in parts for stretch in gatherer.feed([part])] + gatherer.finish()
    assert [stretch.parts for stretch in full] == [tuple(parts[0:2]), tuple(parts[2:4]), (parts[4],)]
    assert all(stretch.samples <= LONGEST_SAMPLES for stretch in full)
    assert gatherer.finish() == []
    alone = Gatherer(longest=0)
    assert [stretch.parts for part in parts for stretch in alone.feed([part])] == [(part,) for part in parts[:-1]]


@pytest.mark.parametrize(
    ("time_s", "is_end", "original_s"),
    [(0, False, 10), (1.5, False, 11.5), (2, False, 20), (2, True, 12), (3, False, 21), (5, True, 23), (6, True, 24)],
)
def test_times_of_a_stretch_are_those_of_the_sound(time_s: float, is_end: bool, original_s: float) -> None:
    stretch = Stretch((Speech(160_000, 192_000), Speech(320_000, 368_000)))
    assert stretch.seconds == 5
    assert stretch.original_s(time_s, is_end) == original_s


def spell(tokens: Sequence[int]) -> str:
    """A vocabulary in which tokens are bytes."""
    return bytes(tokens).decode("utf-8", "replace")


SPLITS: dict[str, tuple[str, str, list[str]]] = {
    "words": (" one two", "en", [" one", " two"]),
    "punctuation": (" one, two!", "en", [" one", ",", " two", "!"]),
    "characters of several bytes": (" año día", "es", [" año", " día"]),
    "no spaces": ("日本語", "ja", ["日", "本", "語"]),
    "nothing": ("", "en", []),
}


@pytest.mark.parametrize("case", SPLITS)
def test_tokens_are_split_into_words(case: str) -> None:
    text, language, words = SPLITS[case]
    got = split(list(text.encode()), language, spell)
    assert [word for word, _ in got] == words
    assert b"".join(bytes(tokens) for _, tokens in got) == text.encode()


def test_words_take_their_times_from_the_path() -> None:
    path = [(0, 5), (0, 6), (1, 10), (2, 20), (2, 21), (3, 30)]
    timed = time_words([(" a", [1]), (" bc", [2, 3]), (" x", [4])], path, [0.5, 0.25, 0.75])
    assert timed == [Timed(" a", (1,), 0.1, 0.2, 0.5), Timed(" bc", (2, 3), 0.2, 0.6, 0.5)]
    assert time_words([], [], []) == []


def word(text: str, start_s: float, end_s: float) -> Timed:
    return Timed(text, (len(text),), start_s, end_s, 0.9)


def test_punctuation_joins_its_word_and_pauses_do_not_stretch_it() -> None:
    words = [word(" ¿", 0, 0.1), word("hola", 0.1, 0.5), word("?", 0.5, 4.0), word(" no", 4.0, 4.4)]
    tidied = tidy(words)
    assert [one.text for one in tidied] == ["", " ¿hola?", "", " no"]
    (piece,) = lay_out([Slice(10, 14.4, (1, 2, 3, 4))], words, TEXT_END, offset_s=10, spoken_until_s=9.9)
    assert [(one.text, one.start_s, one.end_s) for one in piece.words] == [(" ¿hola?", 10.1, 10.5), (" no", 14.0, 14.4)]


def test_a_first_word_does_not_reach_back_over_a_pause() -> None:
    words = [word(" late", 0, 6.0), word(" words", 6.0, 6.3), word(" come", 6.3, 6.6)]
    (piece,) = lay_out([Slice(5.4, 6.6, (1, 2, 3))], words, TEXT_END, offset_s=0, spoken_until_s=0)
    assert piece.words[0].start_s == pytest.approx(5.4)
    assert piece.words[0].end_s == 6.0
    assert piece.start_s == piece.words[0].start_s
