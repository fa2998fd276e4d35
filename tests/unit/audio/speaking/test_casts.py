"""Voices by name, by OpenAI's names and by language, for every engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_bark
import tiny_kokoro
from trenza.common.v1 import common_pb2
from trenza_audio.speaking.casts import cast_of, espeak_cast
from trenza_audio.speaking.core.bark_cast import LANGUAGES, PRESETS, BarkCast
from trenza_audio.speaking.core.espeak_cast import EspeakCast, read_language
from trenza_audio.speaking.core.kokoro_cast import KokoroCast
from trenza_audio.speaking.core.voices import OPENAI_VOICES, Cast, UnknownLanguage, UnknownVoice
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError

ESPEAK = espeak_cast()
KOKORO = KokoroCast(tiny_kokoro.VOICES)
BARK = BarkCast()
CASTS: dict[str, Cast] = {"espeak": ESPEAK, "kokoro": KOKORO, "bark": BARK}


def manifest(engine: str, **files: Path) -> ModelManifest:
    folder = next(iter(files.values())).parent if files else Path()
    return ModelManifest("voice", common_pb2.MODALITY_AUDIO, folder, engine, files=files)


@pytest.mark.parametrize("name", CASTS)
def test_openais_voices_speak_on_every_engine(name: str) -> None:
    cast = CASTS[name]
    listed = {voice.name: voice for voice in cast.voices()}
    assert list(listed) == sorted(listed)
    for alias in OPENAI_VOICES:
        for language in ("en", "es"):
            role = cast.role(alias.upper(), language)
            assert role.language == language
        assert {"en", "es"} <= set(cast.languages(alias))
    led_to = {alias for voice in listed.values() for alias in voice.aliases}
    assert led_to == set(OPENAI_VOICES)


def test_openais_voices_differ() -> None:
    assert len({ESPEAK.role(alias, "en").voice for alias in OPENAI_VOICES}) == 13
    assert len({ESPEAK.role(alias, "es").voice for alias in OPENAI_VOICES}) == 13
    assert len({BARK.role(alias, "es").voice for alias in OPENAI_VOICES}) == 10
    everybody = KokoroCast(
        ["af_alloy", "am_michael", "bm_george", "af_bella", "am_echo", "bm_fable", "am_onyx", "af_nova"]
    )
    assert (
        len({everybody.role(alias, "en").voice for alias in ("alloy", "ash", "ballad", "coral", "echo", "fable")}) == 6
    )


@pytest.mark.parametrize(
    ("voice", "language", "expected"),
    [
        ("alloy", "en", ("en-us", "en", "gmw/en-US")),
        ("alloy", "es", ("es", "es", "roa/es")),
        ("alloy", "es-419", ("es-419", "es", "roa/es-419")),
        ("alloy", "es-MX", ("es-419", "es", "roa/es-419")),
        ("alloy", "en_GB", ("en-gb", "en", "gmw/en")),
        ("alloy", "pt-br", ("pt-br", "pt", "roa/pt-BR")),
        ("alloy", "zh", ("cmn", "zh", "sit/cmn")),
        ("alloy", "no", ("nb", "no", "gmq/nb")),
        ("plain", "fr", ("fr-fr", "fr", "roa/fr")),
        ("nova", "es", ("es+f3", "es", "roa/es+f3")),
        ("es-419", "", ("es-419", "es", "roa/es-419")),
        ("es-419", "es", ("es-419", "es", "roa/es-419")),
        ("EN-us+F3", "en", ("en-us+f3", "en", "gmw/en-US+f3")),
        ("+f3", "en", ("en-us+f3", "en", "gmw/en-US+f3")),
        ("max", "de", ("de+max", "de", "gmw/de+max")),
        ("yue-latn-jyutping", "", ("yue-latn-jyutping", "yue", "sit/yue-Latn-jyutping")),
    ],
)
def test_espeak(voice: str, language: str, expected: tuple[str, str, str]) -> None:
    role = ESPEAK.role(voice, language)
    assert (role.voice, role.language, role.tag) == expected


@pytest.mark.parametrize("voice", ["nobody", "en-us+nobody", "en-us+", "xx+f3", "../../etc/passwd", "en-us\n", "+"])
def test_espeak_has_no_such_voice(voice: str) -> None:
    if voice == "en-us\n":  # space around a name is nobody's mistake
        assert ESPEAK.role(voice, "").voice == "en-us"
        return
    with pytest.raises(UnknownVoice):
        ESPEAK.languages(voice)
    with pytest.raises(UnknownVoice):
        ESPEAK.role(voice, "en")


def test_languages_that_a_voice_does_not_speak() -> None:
    for cast, voice, language in (
        (ESPEAK, "es", "en"),
        (ESPEAK, "alloy", "xx"),
        (KOKORO, "alloy", "fr"),
        (BARK, "alloy", "nl"),
    ):
        with pytest.raises(UnknownLanguage):
            cast.role(voice, language)


def test_espeak_reads_its_data() -> None:
    names = [voice.name for voice in ESPEAK.voices()]
    assert {"en-us", "en-gb", "es", "es-419", "fr-fr", "de", "cmn", "ja", "plain", "f3", "m7"} <= set(names)
    assert len(names) > 120
    assert ESPEAK.languages("alloy")[:2] == ("en", "es")
    assert ESPEAK.languages("es") == ("es",)
    assert read_language("roa/x", "phonemes x\n") is None
    with pytest.raises(ValueError, match="no language"):
        EspeakCast([], ["f3"])


def test_kokoro() -> None:
    assert KOKORO.languages("ef_dora") == ("es",)
    assert KOKORO.languages("alloy") == ("en", "es", "it")
    roles = {
        ("marin", "en"): ("af_heart", "en-us"),
        ("nova", "en"): ("af_nova", "en-us"),
        ("ballad", "en"): ("bm_george", "en-us"),
        ("ballad", "en-gb"): ("bm_george", "en-gb"),
        ("nova", "en-gb"): ("bf_emma", "en-gb"),
        ("alloy", "es"): ("ef_dora", "es"),
        ("onyx", "es"): ("em_alex", "es"),
        ("onyx", "it"): ("if_sara", "it"),
        ("bf_emma", "en"): ("bf_emma", "en-gb"),
        ("AF_Heart", ""): ("af_heart", "en-us"),
        ("af_heart", "es"): ("af_heart", "es"),
    }
    assert {asked: (KOKORO.role(*asked).voice, KOKORO.role(*asked).tag) for asked in roles} == roles
    with pytest.raises(UnknownVoice):
        KOKORO.role("nobody", "en")
    with pytest.raises(ValueError, match="no voice"):
        KokoroCast(["0", "?"])


def test_bark() -> None:
    assert len(PRESETS) == 130
    assert BARK.languages("v2/es_speaker_8") == ("es",)
    assert BARK.languages("alloy") == BARK.languages("random") == LANGUAGES
    roles = {
        ("v2/en_speaker_6", ""): "v2/en_speaker_6",
        ("EN_speaker_6", "en"): "v2/en_speaker_6",
        ("v2/en_speaker_6", "de"): "v2/en_speaker_6",
        ("nova", "en"): "v2/en_speaker_9",
        ("nova", "zh"): "v2/zh_speaker_9",
        ("random", "pl"): "random",
    }
    assert {asked: BARK.role(*asked).voice for asked in roles} == roles
    assert BarkCast(["v2/en_speaker_3"]).role("nova", "es").voice == "random"
    with pytest.raises(UnknownVoice):
        BARK.role("v2/en_speaker_10", "en")


def test_voices_are_read_from_a_models_files(tmp_path: Path) -> None:
    model, voices = tiny_kokoro.write_kokoro(tmp_path / "kokoro")
    kokoro = cast_of(manifest("kokoro", model=model, voices=voices))
    assert [voice.name for voice in kokoro.voices()] == sorted(tiny_kokoro.VOICES)
    folder = tmp_path / "bark"
    for preset in ("v2/en_speaker_4", "v2/es_speaker_2", "announcer"):
        file = folder / "speaker_embeddings" / f"{preset}_semantic_prompt.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert [voice.name for voice in cast_of(manifest("bark", model=folder)).voices()] == [
        *("random", "v2/en_speaker_4", "v2/es_speaker_2")
    ]
    tiny_bark.write_presets(folder)
    assert len(cast_of(manifest("bark", model=folder)).voices()) == 1 + len(tiny_bark.PRESETS)
    assert len(cast_of(manifest("bark")).voices()) == 131


def test_voices_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "voices.bin"
    broken.write_bytes(b"no archive")
    (tmp_path / "speaker_embeddings_path.json").write_text("{")
    for wrong in (
        manifest("kokoro", voices=broken),
        manifest("kokoro"),
        manifest("bark", model=tmp_path),
        manifest("parrot"),
    ):
        with pytest.raises(ModelLoadError):
            cast_of(wrong)
