"""How manifests become engine specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trenza.common.v1 import common_pb2
from trenza_audio.hearing.engine import WhisperSpec
from trenza_audio.models import SPEAKING, spec_for
from trenza_audio.settings import AudioSettings
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError


def manifest(**fields: Any) -> ModelManifest:
    usual = {"engine": "whisper", "files": {"model": Path("/m/model")}}
    return ModelManifest(name="x", modality=common_pb2.MODALITY_AUDIO, folder=Path("/m"), **{**usual, **fields})


def test_a_whisper_takes_its_settings_from_the_service() -> None:
    settings = AudioSettings(batch=3, threads=2, device="cpu", compute_type="int8", beam_size=1, sound_limit_s=60)
    loader, spec = spec_for(manifest(), settings)
    assert loader == "trenza_audio.engines.whisper:load"
    assert spec == WhisperSpec(
        "/m/model", slots=8, batch=3, threads=2, device="cpu", compute_type="int8", beam_size=1, sound_limit_s=60
    )


def test_the_manifest_goes_before_the_settings_where_it_speaks() -> None:
    assert spec_for(manifest(slots=2), AudioSettings(slots=6))[1].slots == 2
    assert spec_for(manifest(engine=""), AudioSettings(slots=6))[1].slots == 6


def test_a_model_may_come_from_a_hub() -> None:
    tables = {"hearing": {"hub": "large-v3-turbo"}}
    assert spec_for(manifest(files={}, tables=tables), AudioSettings())[1].model == "large-v3-turbo"
    assert spec_for(manifest(tables=tables), AudioSettings())[1].model == "/m/model"


@pytest.mark.parametrize("engine", SPEAKING)
def test_engines_that_speak_are_named_by_the_manifest(engine: str) -> None:
    files = {"model": Path("/m/x"), "voices": Path("/m/y")}
    loader, _ = spec_for(manifest(engine=engine, files=files), AudioSettings())
    assert loader == f"trenza_audio.engines.{engine}:load"


@pytest.mark.parametrize(
    "fields", [{"engine": "vosk"}, {"files": {}}, {"files": {}, "tables": {"hearing": {"hub": ""}}}]
)
def test_what_cannot_run_here_says_so(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError):
        spec_for(manifest(**fields), AudioSettings())


@pytest.mark.parametrize("values", [{"slots": 0}, {"batch": 0}, {"threads": 0}, {"beam_size": 0}, {"sound_limit_s": 0}])
def test_specs_that_cannot_work_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WhisperSpec("m", **values)
