"""How manifests become engine specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trenza.common.v1 import common_pb2
from trenza_images.engine import ImagesSpec, ModelDefaults
from trenza_images.engines.diffusers import load
from trenza_images.models import LOADER, spec_for
from trenza_images.settings import ImagesSettings
from trenza_runtime.models.manifest import ModelManifest, read_manifest
from trenza_runtime.worker.engine import ModelLoadError


def manifest(**fields: Any) -> ModelManifest:
    usual = {"engine": "diffusers", "files": {"pipeline": Path("/m/pipeline")}}
    return ModelManifest(name="x", modality=common_pb2.MODALITY_IMAGES, folder=Path("/m"), **{**usual, **fields})


def test_a_manifest_as_starter_draw_has_it(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "model.toml").write_text(
        'name = "starter-draw"\nmodality = "images"\nengine = "diffusers"\n'
        'capabilities = ["image_generation", "image_edit"]\n[files]\npipeline = "pipeline"\n'
        '[defaults]\nsteps = 1\nguidance_scale = 0.0\nsize = "256x256"\nstrength = 0.7\n[drawing]\nnative_size = 128\n'
    )
    loader, spec = spec_for(read_manifest(tmp_path / "model.toml"), ImagesSettings(slots=6))
    assert loader == LOADER
    assert (spec.source, spec.slots) == (str(tmp_path / "pipeline"), 6)
    assert spec.defaults == ModelDefaults(1, 0.0, (256, 256), 0.7, None, 128)


def test_a_name_on_a_hub_stands_for_a_folder() -> None:
    tables = {"drawing": {"hub": "stabilityai/sdxl-turbo", "variant": "fp16"}}
    _, spec = spec_for(manifest(files={}, tables=tables), ImagesSettings())
    assert (spec.source, spec.variant) == ("stabilityai/sdxl-turbo", "fp16")


def test_the_original_systems_folder_is_a_pipeline() -> None:
    _, spec = spec_for(manifest(engine="", files={"model": Path("/m")}), ImagesSettings())
    assert spec.source == "/m"


@pytest.mark.parametrize(
    "fields",
    [
        {"engine": "comfy"},
        {"files": {}},
        {"files": {}, "tables": {"drawing": {"hub": "../../etc/passwd"}}},
        {"files": {}, "tables": {"drawing": {"hub": 7}}},
        {"defaults": {"steps": 0}},
        {"defaults": {"steps": "many"}},
        {"defaults": {"guidance_scale": -1}},
        {"defaults": {"size": "large"}},
        {"defaults": {"strength": 2}},
        {"tables": {"drawing": {"native_size": 4}}},
    ],
)
def test_what_cannot_run_here_says_so(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError):
        spec_for(manifest(**fields), ImagesSettings())


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "MODEL_FILE_MISSING"),
        ({"model_index.json": "{"}, "MODEL_LOAD_FAILED"),
        ({"model_index.json": '{"_class_name": "NoSuchPipeline"}'}, "MODEL_LOAD_FAILED"),
        ({"model_index.json": '{"_class_name": "DDPMPipeline"}'}, "MODEL_LOAD_FAILED"),
    ],
)
def test_a_broken_folder_is_no_model(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelLoadError) as caught:
        load(ImagesSpec(source=str(tmp_path), slots=1), lambda _: None)
    assert caught.value.reason == reason


def test_a_pipeline_without_its_weights_is_no_model(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folders["sdxl"], broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelLoadError, match="diffusers cannot load it"):
        load(ImagesSpec(source=str(broken), slots=1), lambda _: None)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(folders: dict[str, Path], device: str) -> None:
    with pytest.raises(ModelLoadError, match=device):
        load(ImagesSpec(source=str(folders["sdxl"]), slots=1, device=device), lambda _: None)


def test_facts_say_what_was_loaded(folders: dict[str, Path]) -> None:
    told: list[float] = []
    facts = load(ImagesSpec(source=str(folders["turbo"]), slots=3, threads=1), told.append).facts
    assert facts.slots == 3
    assert facts.properties["pipeline"] == "StableDiffusionXLPipeline"
    assert facts.properties["modes"] == "text,image,inpaint"
    assert (facts.properties["steps"], facts.properties["guidance_scale"]) == ("1", "0")
    assert (facts.properties["size"], facts.properties["size_multiple"]) == ("64x64", "8")
    assert told[-1] == 1.0
