"""How manifests become engine specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trenza.common.v1 import common_pb2
from trenza_chat.models import LOADER, spec_for
from trenza_chat.settings import ChatSettings
from trenza_runtime.models.manifest import ModelManifest
from trenza_runtime.worker.engine import ModelLoadError


def manifest(**fields: Any) -> ModelManifest:
    usual = {"engine": "llama", "files": {"model": Path("/m/x.gguf")}, "context_length": 2048}
    return ModelManifest(name="x", modality=common_pb2.MODALITY_CHAT, folder=Path("/m"), **{**usual, **fields})


def test_the_manifest_goes_before_the_settings_where_it_speaks() -> None:
    loader, spec = spec_for(manifest(slots=2), ChatSettings(slots=6, gpu_layers=3))
    assert loader == LOADER
    assert (spec.model_path, spec.slots, spec.context_length, spec.gpu_layers) == ("/m/x.gguf", 2, 2048, 3)
    assert spec_for(manifest(), ChatSettings(slots=6))[1].slots == 6


def test_a_context_length_that_the_operator_sets_counts_for_every_model() -> None:
    assert spec_for(manifest(), ChatSettings(context_length=512))[1].context_length == 512
    assert spec_for(manifest(context_length=0), ChatSettings())[1].context_length is None


@pytest.mark.parametrize("fields", [{"engine": "vllm"}, {"files": {}}])
def test_what_cannot_run_here_says_so(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError):
        spec_for(manifest(**fields), ChatSettings())
