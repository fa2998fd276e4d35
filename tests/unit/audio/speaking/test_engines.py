"""The three engines with real models: espeak-ng itself, and a Bark and a Kokoro that are tiny and say nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_kokoro
from hearing import Wave, decoded, loudness, pitch_hz
from trenza.common.v1 import common_pb2
from trenza_audio.engines import espeak
from trenza_audio.speaking.engine import BarkSpec, EspeakSpec, Finished, KokoroSpec, SpeechRequest, spec_for
from trenza_audio.speaking.stage import SpeechEngine
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import EngineFailure, ModelLoadError


def quiet(_: float) -> None:
    """Nobody watches the loading."""


def say(engine: SpeechEngine, *pieces: str, **fields: Any) -> tuple[Wave, Finished]:
    """The sound of a request, and its end. Fails when the engine does."""
    engine.submit("test", SpeechRequest(pieces, **{"voice": "v", "language": "gmw/en-US", "format": "pcm", **fields}))
    events = [one.event for one in steps(engine)]
    assert isinstance(events[-1], Finished), events[-1]
    return decoded(b"".join(event.sound for event in events), "pcm")[0], events[-1]


def failure(engine: SpeechEngine, *pieces: str, **fields: Any) -> EngineFailure:
    engine.submit("test", SpeechRequest(pieces, **{"voice": "v", "language": "en-us", "format": "pcm", **fields}))
    *_, last = steps(engine)
    assert isinstance(last.event, EngineFailure)
    return last.event


def steps(engine: SpeechEngine) -> Iterator[Any]:
    while engine.busy:
        yield from engine.step()


@pytest.fixture(scope="module")
def voice() -> Iterator[SpeechEngine]:
    loaded = espeak.load(EspeakSpec(slots=3), quiet)
    yield loaded
    loaded.close()


def test_espeak_says_something_else_for_each_text_language_and_voice(voice: SpeechEngine) -> None:
    waves = [
        say(voice, "Three blue squares.")[0],
        say(voice, "One green star.")[0],
        say(voice, "Three blue squares.", language="roa/es")[0],
        say(voice, "Three blue squares.", language="gmw/en-US+f3")[0],
    ]
    assert all(loudness(wave) > 0.02 for wave in waves)
    assert len({wave.tobytes() for wave in waves}) == 4
    again, finished = say(voice, "Three blue squares.")
    assert 0.8 < finished.duration_s == pytest.approx(len(again) / 24_000, abs=0.01)
    assert len(again) == pytest.approx(len(waves[0]), rel=0.01)
    assert voice.facts.slots == 3


def test_espeak_speeds(voice: SpeechEngine) -> None:
    usual = say(voice, "Three blue squares and one green star.")[1].duration_s
    for speed in (0.25, 0.5, 2.0, 4.0):
        wave, finished = say(voice, "Three blue squares and one green star.", speed=speed)
        assert finished.duration_s == pytest.approx(usual / speed, rel=0.2)
        assert loudness(wave) > 0.02


def test_espeak_reads_markup_out(voice: SpeechEngine) -> None:
    """Neither tags, entities, phonemes nor its own commands mean anything."""
    plain = say(voice, "Hi")[1].duration_s
    for text in ('<break time="30s"/>Hi', "<speak>Hi</speak>", "[[h'aI]]", "Hi &amp; hi"):
        assert plain < say(voice, text)[1].duration_s < 15


def test_espeak_has_other_rates_and_pitches() -> None:
    spec = spec_for(manifest("espeak", speaking={"words_per_minute": 100, "pitch": 90}), 2, 1, "cpu")
    assert spec == EspeakSpec(2, 100, 90)
    with pytest.raises(ModelLoadError, match="words_per_minute"):
        spec_for(manifest("espeak", speaking={"words_per_minute": 1000}), 2, 1, "cpu")
    with pytest.raises(ModelLoadError, match="speaking"):
        spec_for(manifest("espeak", speaking={"pitch": "high"}), 2, 1, "cpu")


def test_espeak_cannot_say_everything(voice: SpeechEngine) -> None:
    assert failure(voice, "ꦏ", language="gmw/en-US").details == {"param": "input"}


def test_espeak_without_that_voice(voice: SpeechEngine) -> None:
    refused = failure(voice, "Hi", language="xx/nowhere")
    assert (refused.reason, refused.details) == ("INVALID_ARGUMENT", {"param": "voice"})


def manifest(engine: str, speaking: dict[str, Any] | None = None, **files: Path) -> ModelManifest:
    tables = {"speaking": speaking or {}}
    return ModelManifest("voice", common_pb2.MODALITY_AUDIO, Path(), engine, files=files, tables=tables)


@pytest.fixture(scope="module")
def kokoro_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_kokoro.write_kokoro(tmp_path_factory.mktemp("kokoro"))


@pytest.fixture(scope="module")
def kokoro(kokoro_files: tuple[Path, Path]) -> Iterator[SpeechEngine]:
    from trenza_audio.engines import kokoro

    model, voices = kokoro_files
    spec = spec_for(manifest("kokoro", model=model, voices=voices), 2, 1, "auto")
    assert isinstance(spec, KokoroSpec)
    loaded = kokoro.load(spec, quiet)
    yield loaded
    loaded.close()


def test_kokoro_hums_in_the_voice_asked_for(kokoro: SpeechEngine) -> None:
    wave, finished = say(kokoro, "Hello there.", "One star.", voice="af_heart", language="en-us")
    assert pitch_hz(wave, 24_000) == pytest.approx(tiny_kokoro.HZ, abs=3)
    assert finished.duration_s > 1
    louder, _ = say(kokoro, "Hello there.", "One star.", voice="if_sara", language="en-us")
    assert loudness(louder) > 3 * loudness(wave)
    assert kokoro.facts.memory_bytes["cpu"] > 100_000


def test_kokoro_speaks_languages_apart(kokoro: SpeechEngine) -> None:
    lengths = {tag: say(kokoro, "gente", voice="ef_dora", language=tag)[1].duration_s for tag in ("es", "en-us", "it")}
    assert len(set(lengths.values())) > 1


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_kokoro_speeds(kokoro: SpeechEngine, speed: float) -> None:
    text = "Three blue squares and one green star."
    usual = say(kokoro, text, voice="af_heart", language="en-us")[1].duration_s
    wave, finished = say(kokoro, text, voice="af_heart", language="en-us", speed=speed)
    assert finished.duration_s == pytest.approx(usual / speed, rel=0.1)
    assert pitch_hz(wave, 24_000) == pytest.approx(tiny_kokoro.HZ, abs=8)


def test_kokoro_that_knows_whole_speeds_only(tmp_path: Path) -> None:
    from trenza_audio.engines import kokoro

    model, voices = tiny_kokoro.write_kokoro(tmp_path, whole_speeds=True)
    loaded = kokoro.load(KokoroSpec(str(model), str(voices)), quiet)
    usual = say(loaded, "Hello there", voice="af_heart", language="en-us")[1].duration_s
    fast = say(loaded, "Hello there", voice="af_heart", language="en-us", speed=1.5)[1].duration_s
    assert fast == pytest.approx(usual / 1.5, rel=0.1)
    loaded.close()


def test_kokoro_refuses(kokoro: SpeechEngine, kokoro_files: tuple[Path, Path], tmp_path: Path) -> None:
    from trenza_audio.engines import kokoro as module

    assert failure(kokoro, "Hi", voice="nobody").details == {"param": "voice"}
    assert failure(kokoro, "ꦏ", voice="af_heart").details == {"param": "input"}
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    model, voices = kokoro_files
    for wrong in (
        KokoroSpec(str(broken), str(voices)),
        KokoroSpec(str(model), str(broken)),
        KokoroSpec("nowhere", str(voices)),
    ):
        with pytest.raises(ModelLoadError):
            module.load(wrong, quiet)
    with pytest.raises(ModelLoadError, match=r"files\.voices"):
        spec_for(manifest("kokoro", model=model), 2, 1, "auto")


@pytest.fixture(scope="module")
def bark(bark_folder: Path) -> Iterator[SpeechEngine]:
    from trenza_audio.engines import bark

    spec = spec_for(manifest("bark", model=bark_folder), 2, 1, "cpu")
    assert isinstance(spec, BarkSpec)
    loaded = bark.load(spec, quiet)
    yield loaded
    loaded.close()


def test_bark_samples_what_a_seed_says(bark: SpeechEngine) -> None:
    first, finished = say(bark, "hello one.", voice="v2/en_speaker_0", language="en", seed=1)
    assert loudness(first) > 0.01
    assert finished.prompt_tokens == 3
    assert finished.completion_tokens > 5
    same, _ = say(bark, "hello one.", voice="v2/en_speaker_0", language="en", seed=1)
    other, _ = say(bark, "hello one.", voice="v2/en_speaker_0", language="en", seed=2**63 - 1)
    preset, _ = say(bark, "hello one.", voice="v2/es_speaker_1", language="en", seed=1)
    assert same.tobytes() == first.tobytes()
    assert other.tobytes() != first.tobytes()
    assert preset.tobytes() != first.tobytes()


def test_bark_is_greedy_at_temperature_zero(bark: SpeechEngine) -> None:
    greedy = [say(bark, "hello", voice="random", language="en", temperature=0.0)[0].tobytes() for _ in range(2)]
    assert greedy[0] == greedy[1]
    assert say(bark, "hello", voice="random", language="en", temperature=1.5)[0].tobytes() != greedy[0]


def test_bark_makes_pauses_between_sentences_and_stretches(bark: SpeechEngine) -> None:
    wave, finished = say(bark, "one", "two", voice="random", language="en")
    assert not np.any(wave[-5_000:])
    assert finished.duration_s > 0.5
    assert say(bark, "one", "two", voice="random", language="en", speed=2.0)[1].duration_s < finished.duration_s * 0.8


def test_bark_stops_within_a_piece(bark: SpeechEngine) -> None:
    synthesiser: Any = bark._synthesiser
    begun, cancelled, passes = threading.Event(), threading.Event(), []

    def wait_for_the_end(*_: object) -> None:
        passes.append(1)
        begun.set()
        assert cancelled.wait(30)

    hook = synthesiser._model.coarse_acoustics.register_forward_pre_hook(wait_for_the_end)
    try:
        bark.submit("test", SpeechRequest(("one two three",), "v2/en_speaker_0", "en", "pcm"))
        while not begun.is_set():
            assert not bark.step()
        bark.cancel("test")
        cancelled.set()
        assert not list(steps(bark))
        assert len(passes) == 1
    finally:
        hook.remove()


def test_bark_refuses(bark: SpeechEngine, tmp_path: Path) -> None:
    from trenza_audio.engines import bark as module

    assert failure(bark, "one", voice="v2/pl_speaker_0").details == {"param": "voice"}
    with pytest.raises(ModelLoadError):
        module.load(BarkSpec(str(tmp_path), device="cpu"), quiet)
    with pytest.raises(ModelLoadError, match=r"speaking\.hub"):
        spec_for(manifest("bark"), 2, 1, "cpu")
    assert spec_for(manifest("bark", {"hub": "suno/bark-small"}), 2, 1, "cpu") == BarkSpec(
        "suno/bark-small", 2, 1, "cpu"
    )


def test_bark_finds_presets_that_nobody_listed(bark_folder: Path, tmp_path: Path) -> None:
    from trenza_audio.engines import bark as module

    for path in bark_folder.iterdir():
        if path.name != "speaker_embeddings_path.json":
            (tmp_path / path.name).symlink_to(path)
    loaded = module.load(BarkSpec(str(tmp_path), device="cpu"), quiet)
    assert say(loaded, "one", voice="v2/es_speaker_0", language="es")[1].duration_s > 0.1
    loaded.close()
