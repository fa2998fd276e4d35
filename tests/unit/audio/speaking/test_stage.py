"""Whose turn it is: an engine around a synthesiser that hums, and hangs where a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hearing import PCM_RATE_HZ, seconds, sine
from trenza_audio.speaking.core.speed import divide_speed
from trenza_audio.speaking.engine import Finished, SpeechRequest, Spoken
from trenza_audio.speaking.stage import Line, Sound, SpeechEngine, SpeechFailed
from trenza_runtime.worker.engine import EngineFailure, ModelFacts

PIECE_S = 0.2


class Hum:
    """Hums for each piece; "hang" lasts until it is stopped, "fail" fails, "hush" is silent."""

    sample_rate_hz = PCM_RATE_HZ
    speeds = (0.5, 2.0)

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.hanging = threading.Event()
        self.stopped = False
        self.closed = False

    def speak(self, line: Line, stopped: Callable[[], bool]) -> Sound:
        self.lines.append(line)
        if line.text == "fail":
            raise SpeechFailed("INVALID_ARGUMENT", "It fails.", {"param": "input"})
        if line.text == "hang":
            self.hanging.set()
            while not stopped():
                threading.Event().wait(0.01)
            self.stopped = True
        duration_s = 0.0 if line.text == "hush" else PIECE_S / line.speed
        return Sound(sine(300, duration_s, PCM_RATE_HZ), prompt_tokens=2, completion_tokens=3)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def hum() -> Hum:
    return Hum()


@pytest.fixture
def engine(hum: Hum) -> Iterator[SpeechEngine]:
    started = SpeechEngine(hum, ModelFacts(slots=4, memory_bytes={}))
    yield started
    started.close()
    assert hum.closed


def asks(*pieces: str, **fields: Any) -> SpeechRequest:
    return SpeechRequest(pieces, "voice", "en", **{"format": "pcm", **fields})


def run(engine: SpeechEngine) -> list[tuple[str, Any, bool]]:
    """Steps until there is nothing more to do."""
    emissions = []
    while engine.busy:
        emissions += [(one.request_id, one.event, one.last) for one in engine.step()]
    return emissions


def test_pieces_come_one_by_one(engine: SpeechEngine) -> None:
    engine.submit("a", asks("one", "two", "three"))
    events = run(engine)
    assert [(type(event), last) for _, event, last in events] == [(Spoken, False), (Spoken, False), (Finished, True)]
    assert [event.pieces_done for _, event, _ in events[:2]] == [1, 2]
    finished = events[-1][1]
    assert finished.duration_s == pytest.approx(3 * PIECE_S)
    assert seconds(b"".join(event.sound for _, event, _ in events)) == pytest.approx(3 * PIECE_S)
    assert (finished.prompt_tokens, finished.completion_tokens) == (6, 9)
    assert finished.prefill_s > 0
    assert finished.decode_s > 0


def test_a_long_text_does_not_hold_up_a_short_one(engine: SpeechEngine, hum: Hum) -> None:
    engine.submit("long", asks(*["long"] * 6))
    engine.step()
    engine.submit("short", asks("short", "short"))
    engine.submit("other", asks("other"))
    order = [request_id for request_id, _, _ in run(engine)]
    assert order.index("other") < 3
    assert [name for name in order if name != "other"][:4] in (
        ["short", "long", "short", "long"],
        ["long", "short"] * 2,
    )
    assert order[-2:] == ["long", "long"]
    assert not engine.gauges()["talks"]


def test_cancelling_takes_effect_within_a_piece(engine: SpeechEngine, hum: Hum) -> None:
    engine.submit("stuck", asks("hang", "never"))
    while not hum.hanging.is_set():
        assert not engine.step()
    engine.submit("next", asks("next"))
    engine.cancel("stuck")
    assert [(request_id, last) for request_id, _, last in run(engine)] == [("next", True)]
    assert hum.stopped
    assert "never" not in [line.text for line in hum.lines]


def test_cancelling_what_waits_and_what_nobody_knows(engine: SpeechEngine, hum: Hum) -> None:
    engine.submit("a", asks("one"))
    engine.cancel("a")
    engine.cancel("nobody")
    assert not engine.busy
    assert run(engine) == []
    assert hum.lines == []


def test_a_failure_ends_one_request_only(engine: SpeechEngine) -> None:
    engine.submit("bad", asks("one", "fail", "three"))
    engine.submit("good", asks("one", "two"))
    last = {request_id: event for request_id, event, ends in run(engine) if ends}
    assert last["bad"] == EngineFailure("INVALID_ARGUMENT", "It fails.", {"param": "input"})
    assert isinstance(last["good"], Finished)


def test_silence_alone_is_a_failure_and_between_words_it_is_not(engine: SpeechEngine) -> None:
    engine.submit("silent", asks("hush", "hush"))
    engine.submit("pauses", asks("hush", "one", "hush"))
    last = {request_id: event for request_id, event, ends in run(engine) if ends}
    assert (last["silent"].reason, last["silent"].details) == ("INVALID_ARGUMENT", {"param": "input"})
    assert last["pauses"].duration_s == pytest.approx(PIECE_S)


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_speeds_beyond_the_synthesisers_own_stretch_the_sound(engine: SpeechEngine, hum: Hum, speed: float) -> None:
    engine.submit("a", asks(*["one"] * 5, speed=speed))
    events = run(engine)
    assert 0.5 <= hum.lines[0].speed <= 2.0
    assert events[-1][1].duration_s == pytest.approx(5 * PIECE_S / speed, rel=0.1)
    assert divide_speed(speed, 0.5, 2.0).spoken * divide_speed(speed, 0.5, 2.0).stretch == speed


def test_seeds_differ_from_piece_to_piece(engine: SpeechEngine, hum: Hum) -> None:
    engine.submit("a", asks("one", "two", seed=7, temperature=0.5))
    run(engine)
    assert [(line.seed, line.temperature) for line in hum.lines] == [(7, 0.5), (8, 0.5)]


def test_floats_are_clipped(hum: Hum) -> None:
    class Loud(Hum):
        def speak(self, line: Line, stopped: Callable[[], bool]) -> Sound:
            return Sound(np.array([0.5, 2.0, -2.0, np.nan] * 100, np.float32))

    engine = SpeechEngine(Loud(), ModelFacts(slots=1, memory_bytes={}))
    engine.submit("a", asks("one"))
    samples = np.frombuffer(run(engine)[-1][1].sound, "<i2")
    assert samples[:4].tolist() == [16383, 32767, -32767, 0]
    engine.close()


@pytest.mark.parametrize(
    "wrong",
    [{"speed": 5.0}, {"speed": 0.1}, {"temperature": 3.0}, {"pieces": ()}, {"pieces": ("",)}, {"speed": float("nan")}],
)
def test_requests_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        SpeechRequest(**{"pieces": ("one",), "voice": "v", "language": "en", **wrong})
