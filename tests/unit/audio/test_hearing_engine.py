"""The hearing engine: what it hears is what faster-whisper hears, for many at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sounds
from faster_whisper import WhisperModel
from hearing_driver import Driver, failure, finished, segments, started, text
from trenza_audio.hearing.core import segments as core_segments
from trenza_audio.hearing.engine import Advanced, Finished, Segment, Started, VoiceActivity


@pytest.fixture
def start(whisper_folder: Path) -> Iterator[Callable[..., Driver]]:
    """Starts engines; they are closed after the test, and none of their threads may be left."""
    drivers: list[Driver] = []

    def start_engine(folder: Path = whisper_folder, **settings: Any) -> Driver:
        drivers.append(Driver(folder, **settings))
        return drivers[-1]

    yield start_engine
    for driver in drivers:
        driver.engine.close()
    for thread in threading.enumerate():
        if thread.name.startswith("hearing-"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def reference(whisper_folder: Path) -> WhisperModel:
    return WhisperModel(str(whisper_folder), device="cpu", compute_type="float32", cpu_threads=1)


@pytest.fixture(scope="session")
def tunes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, int], Path]:
    """Files with tones, by length in seconds and seed."""
    folder = tmp_path_factory.mktemp("tunes")

    def tune(seconds: float, seed: int = 0) -> Path:
        path = folder / f"{seconds}-{seed}"
        return path if path.exists() else sounds.write_wav(path, sounds.tones(seconds, seed))

    return tune


Tunes = Callable[..., Path]


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize(("seconds", "prompt"), [(5, ""), (12.3, "one two"), (30, ""), (75.5, "three")])
def test_one_request_alone_gives_what_faster_whisper_gives(
    start: Callable[..., Driver],
    reference: WhisperModel,
    tunes: Tunes,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    prompt: str,
    words: bool,
) -> None:
    monkeypatch.setattr(core_segments, "MIN_ADVANCE_FRAMES", 1)  # the reference knows no least advance
    path = tunes(seconds, 7)
    expected, info = reference.transcribe(
        str(path), temperature=0.0, initial_prompt=prompt or None, word_timestamps=words
    )
    wanted = list(expected)
    events = start().hear(path, prompt=prompt, words=words)
    heard = segments(events)
    assert [(one.text, one.tokens) for one in heard] == [(one.text, tuple(one.tokens)) for one in wanted]
    for mine, theirs in zip(heard, wanted, strict=True):
        assert (mine.start_s, mine.end_s) == pytest.approx((theirs.start, theirs.end))
        assert mine.mean_logprob == pytest.approx(theirs.avg_logprob, abs=1e-3)
        assert mine.compression_ratio == pytest.approx(theirs.compression_ratio)
        assert mine.no_speech_probability == pytest.approx(theirs.no_speech_prob, abs=1e-6)
        mine_words = [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in mine.words]
        their_words = [
            (word.word, round(float(word.start), 2), round(float(word.end), 2)) for word in theirs.words or ()
        ]
        assert mine_words == their_words
    assert started(events).language == info.language
    assert started(events).language_probability == pytest.approx(info.language_probability, abs=1e-3)
    assert finished(events).duration_s == pytest.approx(seconds)
    assert bool(words) == any(segment.words for segment in heard)


def test_hotwords_and_task_reach_the_model_as_in_faster_whisper(
    start: Callable[..., Driver], reference: WhisperModel, tunes: Tunes
) -> None:
    path = tunes(8, 3)
    arguments = {"temperature": 0.0, "language": "es", "task": "translate"}
    wanted, _ = reference.transcribe(str(path), hotwords="green star", **arguments)
    plain, _ = reference.transcribe(str(path), **arguments)
    heard = start().hear(path, language="es", task="translate", hotwords=("green star",))
    assert text(heard) == "".join(one.text for one in wanted) != "".join(one.text for one in plain)


def test_windows_of_different_requests_share_every_call(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start(batch=8, slots=8)
    alone = {seed: text(start().hear(tunes(5, seed), language="en")) for seed in range(5)}
    for seed in range(5):
        driver.submit(str(seed), tunes(5, seed), language="en")
    driver.ready()
    driver.step()
    assert driver.calls == {"encode": [5], "write": [5]}
    driver.run()
    assert {seed: text(driver.events[str(seed)]) for seed in range(5)} == alone


def test_languages_are_detected_in_one_call_and_tasks_share_another(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start()
    for seed in range(3):
        driver.submit(str(seed), tunes(4, seed), task="translate" if seed else "transcribe", words=True)
    driver.submit("known", tunes(4, 9), language="fr", words=True)
    driver.ready()
    driver.step()
    assert (driver.calls["encode"], driver.calls["detect"], driver.calls["write"]) == ([4], [3], [4])
    assert sum(driver.calls["align"]) <= 4
    driver.run()
    assert started(driver.events["known"]) == Started("fr", 1.0, 4.0)
    for seed in range(3):
        assert 0 < started(driver.events[str(seed)]).language_probability <= 1


def test_a_short_request_is_not_behind_long_ones(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start(batch=2, slots=4)
    for index in range(3):
        driver.submit(f"long {index}", tunes(240, 1), language="en")
    driver.run_until(lambda: len(driver.calls.get("write", [])) >= 2)
    driver.submit("short", tunes(3, 2), language="en")
    before = len(driver.calls["encode"])
    driver.run_until(lambda: any(isinstance(event, Segment) for event in driver.events.get("short", ())))
    # A step or two until its sound is decoded, and with four requests for two places at most two more.
    assert len(driver.calls["encode"]) - before <= 6
    assert all(not isinstance(driver.events.get(f"long {index}", [None])[-1], Finished) for index in range(3))


def test_a_cancelled_request_is_out_of_the_next_step(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start(slots=2)
    driver.submit("goes", tunes(240, 1), language="en")
    driver.submit("stays", tunes(65, 2), language="en")
    driver.submit("waits", tunes(3, 3), language="en")
    driver.submit("waits in vain", tunes(3, 4), language="en")
    driver.ready()
    driver.step()
    assert driver.calls["encode"] == [2]
    driver.engine.cancel("goes")
    driver.engine.cancel("waits in vain")
    driver.engine.cancel("unknown")
    told = len(driver.events.get("goes", ()))
    driver.run()
    assert len(driver.events.get("goes", ())) == told
    assert "waits in vain" not in driver.events
    finished(driver.events["stays"])
    finished(driver.events["waits"])


def test_what_fails_is_tried_at_higher_temperatures_beside_what_succeeds(
    start: Callable[..., Driver], unsure_folder: Path, tunes: Tunes
) -> None:
    driver = start(unsure_folder, batch=4, slots=4)
    driver.submit("patient", tunes(4, 1), language="en", temperature=None)
    driver.submit("fixed", tunes(4, 2), language="en", temperature=0.4)
    driver.ready()
    driver.run()
    assert {segment.temperature for segment in segments(driver.events["patient"])} <= {1.0}
    assert {round(segment.temperature, 1) for segment in segments(driver.events["fixed"])} <= {0.4}
    assert driver.calls["encode"][0] == 2
    assert len(driver.calls["write"]) >= 7
    # A window is encoded once, however often it is tried.
    assert len(driver.calls["encode"]) < len(driver.calls["write"])


def test_a_device_without_memory_gets_smaller_batches(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start()
    expected = {seed: text(start().hear(tunes(5, seed), words=True)) for seed in range(4)}
    driver.memory_windows = 1
    for seed in range(4):
        driver.submit(str(seed), tunes(5, seed), words=True)
    driver.ready()
    driver.run()
    assert {seed: text(driver.events[str(seed)]) for seed in range(4)} == expected
    assert max(driver.calls["write"]) == 1
    assert driver.calls["encode"][:3] == [4, 2, 1]


def test_a_device_without_memory_for_anything_hands_over_to_the_cpu(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver, spare = start(), start()
    driver.engine._on_cpu = lambda: spare.engine._whisper
    driver.memory_windows = 0
    expected = text(spare.hear(tunes(40, 3)))
    assert text(driver.hear(tunes(40, 3))) == expected
    driver.memory_windows = 0
    driver.engine._on_cpu = None
    spare.memory_windows = 0
    driver.submit("too much", tunes(3, 1))
    with pytest.raises(MemoryError):
        driver.run()


def test_requests_that_the_model_cannot_serve_are_refused_at_once(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start(max_waiting=1)
    driver.submit("klingon", tunes(3), language="tlh")
    driver.submit("first", tunes(3))
    driver.submit("too many", tunes(3))
    driver.step()
    assert failure(driver.events["klingon"]).details == {"param": "language"}
    assert failure(driver.events["too many"]).reason == "QUEUE_FULL"
    driver.run()
    finished(driver.events["first"])


def test_speech_is_cut_into_passages_that_are_heard_side_by_side(start: Callable[..., Driver], tmp_path: Path) -> None:
    said = sounds.speech("Hello there, this is one sentence for the machine to hear and to write down.")
    pause = sounds.silence(14)
    path = sounds.write_wav(
        tmp_path / "talk", np.concatenate([pause, said, pause, said, pause, said, pause, *[said] * 10])
    )
    driver = start(batch=8)
    driver.submit("talk", path, chunking="auto", language="en", words=True)
    driver.ready(windows=2)
    driver.run()
    events = driver.events["talk"]
    assert driver.calls["write"][0] > 1
    seconds = len(said) / sounds.RATE_HZ
    assert finished(events).speech_s == pytest.approx(13 * seconds, rel=0.25)
    assert finished(events).duration_s == pytest.approx(4 * 14 + 13 * seconds, abs=0.1)
    heard = segments(events)
    begins = [one.start_s for one in heard]
    assert begins[0] >= 13
    silent = (14 + seconds + 1, 28 + seconds - 1)
    assert not [one for one in heard if silent[0] < one.start_s < silent[1]]
    progress = [event.done_s for event in events if isinstance(event, Advanced)]
    assert progress == sorted(progress)
    assert started(events).duration_s > 0
    # What a passage begins with depends on the passage alone, so one at a time gives the same.
    slow = start(batch=1).hear(path, chunking="auto", language="en", words=True)
    assert segments(slow)[0].tokens == heard[0].tokens
    assert finished(slow).speech_s == finished(events).speech_s
    # Who says how much silence ends a passage gets it: three sentences alone, and ten without a pause, 30 seconds at most.
    apart = VoiceActivity(silence_duration_ms=2000, gathers=False)
    driver.calls.clear()
    driver.hear(path, chunking=apart, language="en", temperature=0.0)
    assert sum(driver.calls["encode"]) >= 3 + 10 * seconds // 30


@pytest.mark.parametrize("chunking", ["auto", VoiceActivity(threshold=0.6)])
@pytest.mark.parametrize("make", [sounds.silence, sounds.noise])
def test_nothing_is_heard_where_nobody_speaks(
    start: Callable[..., Driver], tmp_path: Path, make: Callable[[float], Any], chunking: Any
) -> None:
    path = sounds.write_wav(tmp_path / "quiet", make(45))
    events = start().hear(path, chunking=chunking)
    assert not segments(events)
    assert started(events) == Started("", 0.0, 45.0)
    assert (finished(events).duration_s, finished(events).speech_s) == (45.0, 0.0)


def test_silence_does_not_reach_the_model(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start()
    events = driver.hear(sounds.write_wav(tmp_path / "silent", sounds.silence(70)))
    assert events == [Started("", 0.0, 70.0), events[-1]]
    assert finished(events).duration_s == 70.0
    assert not driver.calls
    late = np.concatenate([sounds.silence(61), sounds.tones(5)])
    heard = segments(driver.hear(sounds.write_wav(tmp_path / "late", late)))
    assert heard
    assert all(one.start_s >= 60 for one in heard)
    assert driver.calls["encode"][0] == 1


def test_short_sounds_are_heard_whole_where_the_engine_decides(start: Callable[..., Driver], tunes: Tunes) -> None:
    driver = start()
    assert text(driver.hear(tunes(20, 5), chunking="auto")) == text(driver.hear(tunes(20, 5), chunking="none"))


def test_logprobs_come_with_the_bytes_of_their_tokens(start: Callable[..., Driver], tunes: Tunes) -> None:
    heard = segments(start().hear(tunes(12, 1), logprobs=True))
    assert heard
    for segment in heard:
        assert b"".join(one.text for one in segment.logprobs).decode("utf-8", "replace") == segment.text
        assert all(one.logprob <= 0 for one in segment.logprobs)


def test_long_sound_is_never_in_memory_as_a_whole(start: Callable[..., Driver], tmp_path: Path) -> None:
    """Reads 20 minutes as the engine does, without hearing them: 77 MB as float, of which a minute at most may be held."""
    path = sounds.write_wav(tmp_path / "long", np.tile(sounds.tones(60, 1), 20))
    driver = start()
    driver.submit("long", path, language="en")
    driver.ready()
    process = psutil.Process(os.getpid())
    hearing = driver.engine._running["long"]
    held = peak = process.memory_info().rss
    for minute in range(1, 20):
        (turn,) = hearing.take_turns(1)
        hearing.heard(turn, minute * 6000)
        while not hearing.ready:
            hearing.collect()
            driver.engine._news.wait(0.01)
        peak = max(peak, process.memory_info().rss)
    assert hearing.ready[0].window.seek == 19 * 6000
    assert peak - held < 30_000_000
    driver.engine.cancel("long")
