"""How manifests become engine specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trenza.common.v1 import common_pb2
from trenza_llama.engine import LlamaSpec
from trenza_runtime.models.manifest import ModelManifest, read_legacy_manifest
from trenza_runtime.worker.engine import ModelLoadError
from trenza_vision.engine import TransformersSpec
from trenza_vision.models import LLAMA_LOADER, TRANSFORMERS_LOADER, spec_for
from trenza_vision.settings import VisionSettings

FILES = {"model": Path("/m/x.gguf"), "projector": Path("/m/p.gguf")}


def manifest(name: str = "x", **fields: Any) -> ModelManifest:
    usual = {"engine": "llama", "files": FILES, "context_length": 2048}
    return ModelManifest(name=name, modality=common_pb2.MODALITY_VISION, folder=Path("/m"), **{**usual, **fields})


def test_a_model_and_its_projector_run_on_the_llama_engine() -> None:
    loader, spec = spec_for(manifest(slots=2), VisionSettings(gpu_layers=3, picture_cache_bytes=7))
    assert loader == LLAMA_LOADER
    assert isinstance(spec, LlamaSpec)
    assert (spec.model_path, spec.projector_path, spec.slots) == ("/m/x.gguf", "/m/p.gguf", 2)
    assert (spec.context_length, spec.gpu_layers, spec.picture_cache_bytes) == (2048, 3, 7)


def test_a_folder_or_a_name_on_a_hub_run_on_transformers() -> None:
    folder = manifest(engine="transformers", files={"model": Path("/m/folder")})
    loader, spec = spec_for(folder, VisionSettings(device="cpu", slots=6))
    assert loader == TRANSFORMERS_LOADER
    assert isinstance(spec, TransformersSpec)
    assert (spec.source, spec.slots, spec.device, spec.four_bit) == ("/m/folder", 6, "cpu", False)
    table = {"vision": {"hub": "llava-hf/llava-1.5-7b-hf", "quantization": "4bit"}}
    _, spec = spec_for(manifest(engine="transformers", files={}, tables=table), VisionSettings())
    assert (spec.source, spec.four_bit) == ("llava-hf/llava-1.5-7b-hf", True)


def test_without_an_engine_the_files_decide() -> None:
    assert spec_for(manifest(engine=""), VisionSettings())[0] == LLAMA_LOADER
    assert spec_for(manifest(engine="", files={"model": Path("/m")}), VisionSettings())[0] == TRANSFORMERS_LOADER


@pytest.mark.parametrize(("name", "four_bit"), [("llava-1.5-7b-hf", False), ("llava-1.5-7b-hf_4bit", True)])
def test_a_folder_of_the_original_system_works_and_its_name_says_whether_4_bits(
    tmp_path: Path, name: str, four_bit: bool
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.ini").write_text("[MODEL CONFIG]\ncontext_window = 4096\nmodel_size = 14\n")
    loader, spec = spec_for(read_legacy_manifest(tmp_path / name / f"{name}.ini", "vision"), VisionSettings())
    assert loader == TRANSFORMERS_LOADER
    assert (spec.source, spec.context_length, spec.four_bit) == (str(tmp_path / name), 4096, four_bit)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"engine": "vllm"}, "ENGINE_MISSING"),
        ({"files": {"model": Path("/m/x.gguf")}}, "MODEL_FILE_MISSING"),
        ({"files": {"projector": Path("/m/x.gguf")}}, "MODEL_FILE_MISSING"),
        ({"engine": "transformers", "files": {}}, "MODEL_FILE_MISSING"),
        ({"engine": "transformers", "files": {}, "tables": {"vision": {"hub": "../../etc"}}}, "MODEL_LOAD_FAILED"),
        ({"engine": "transformers", "tables": {"vision": {"quantization": "3bit"}}}, "MODEL_LOAD_FAILED"),
    ],
)
def test_what_cannot_run_here_says_so(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        spec_for(manifest(**fields), VisionSettings())
    assert caught.value.reason == reason
