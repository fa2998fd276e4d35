"""Which models a models root holds, in today's layout and in the original system's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trenza.common.v1 import common_pb2
from trenza_runtime.models.manifest import ManifestError, ModelManifest, read_manifest
from trenza_runtime.models.registry import ModelRegistry

MINIMAL = 'name = "m"\nmodality = "chat"\n'


def write_model(folder: Path, text: str, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    (folder / "model.toml").write_text(text)
    return folder / "model.toml"


def scan(root: Path) -> dict[str, ModelManifest]:
    return dict(ModelRegistry(root, common_pb2.MODALITY_CHAT).scan().models)


def test_reads_everything_that_a_manifest_says(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "tiny",
        """
        name = "acme/tiny-1.5"
        modality = "vision"
        engine = "llama"
        description = "Sees."
        license = "MIT"
        owned_by = "acme"
        capabilities = ["chat", "image_input", "tools"]
        [files]
        model = "weights.gguf"
        [defaults]
        temperature = 0.3
        [context]
        length = 4096
        [limits]
        slots = 8
        [projector]
        layers = 3
        """,
        weights__gguf=b"x" * 1000,
    )
    os.utime(tmp_path / "tiny" / "weights.gguf", (2_000_000_000, 2_000_000_000))
    manifest = read_manifest(path)
    assert (manifest.name, manifest.modality, manifest.engine) == ("acme/tiny-1.5", common_pb2.MODALITY_VISION, "llama")
    assert (manifest.description, manifest.license, manifest.owned_by) == ("Sees.", "MIT", "acme")
    assert manifest.capabilities == (
        common_pb2.CAPABILITY_CHAT,
        common_pb2.CAPABILITY_IMAGE_INPUT,
        common_pb2.CAPABILITY_TOOLS,
    )
    assert manifest.files == {"model": tmp_path / "tiny" / "weights.gguf"}
    assert manifest.defaults == {"temperature": 0.3}
    assert (manifest.context_length, manifest.slots) == (4096, 8)
    assert (manifest.size_bytes, manifest.created_unix_s) == (1000, 2_000_000_000)
    assert manifest.tables["projector"] == {"layers": 3}


def test_a_minimal_manifest_gets_the_usual_values(tmp_path: Path) -> None:
    manifest = read_manifest(write_model(tmp_path / "m", MINIMAL))
    assert manifest.owned_by == "trenza"
    assert manifest.capabilities == (common_pb2.CAPABILITY_CHAT, common_pb2.CAPABILITY_COMPLETION)
    assert (manifest.context_length, manifest.slots, manifest.size_bytes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "no valid TOML"),
        ('modality = "chat"', "name is missing"),
        ('name = "m"\nmodality = "smell"', "modality"),
        ('name = "../m"\nmodality = "chat"', "name"),
        (MINIMAL + 'capabilites = ["chat"]', "no such key as 'capabilites'"),
        (MINIMAL + 'capabilities = ["fly"]', "no capability 'fly'"),
        (MINIMAL + "[context]\nlength = -1", "context.length"),
        (MINIMAL + '[limits]\nslots = "many"', "limits.slots"),
        (MINIMAL + '[files]\nmodel = "absent.gguf"', "not there"),
        (MINIMAL + '[files]\nmodel = "../other/weights.gguf"', "inside the model's folder"),
        (MINIMAL + '[files]\nmodel = "/etc/passwd"', "inside the model's folder"),
        (MINIMAL + '[files]\nmodel = "a/../../x"', "inside the model's folder"),
    ],
)
def test_says_what_is_wrong_with_a_manifest(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "weights.gguf").touch()
    path = write_model(tmp_path / "m", text)
    with pytest.raises(ManifestError, match=complaint):
        read_manifest(path)


def test_all_parts_of_a_split_file_count(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for part in (1, 2, 3):
        (folder / f"big-{part:05}-of-00003.gguf").write_bytes(b"x" * 10)
    path = write_model(folder, MINIMAL + '[files]\nmodel = "big-00001-of-00003.gguf"')
    assert read_manifest(path).size_bytes == 30


def test_finds_models_of_its_modality_only(tmp_path: Path) -> None:
    write_model(tmp_path / "a", MINIMAL)
    write_model(tmp_path / "nested" / "b", 'name = "b"\nmodality = "chat"')
    write_model(tmp_path / "c", 'name = "c"\nmodality = "images"\nnonsense = 1')
    (tmp_path / ".hidden").mkdir()
    registry = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT)
    assert set(registry.scan().models) == {"m", "b"}
    assert registry.catalogue.problems == {}


def test_a_bad_manifest_is_reported_and_costs_no_other(tmp_path: Path) -> None:
    write_model(tmp_path / "good", MINIMAL)
    bad = write_model(tmp_path / "bad", "nonsense")
    catalogue = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT).scan()
    assert set(catalogue.models) == {"m"}
    assert set(catalogue.problems) == {bad}


def test_the_first_of_two_folders_with_one_name_counts(tmp_path: Path) -> None:
    write_model(tmp_path / "a", MINIMAL + 'description = "first"')
    second = write_model(tmp_path / "b", MINIMAL + 'description = "second"')
    catalogue = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT).scan()
    assert catalogue.models["m"].description == "first"
    assert str(tmp_path / "a") in catalogue.problems[second]


def test_follows_what_comes_and_goes(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT)
    assert registry.scan().models == {}
    path = write_model(tmp_path / "a", MINIMAL + '[files]\nmodel = "late.bin"')
    assert registry.scan().models == {}
    (tmp_path / "a" / "late.bin").touch()
    assert set(registry.scan().models) == {"m"}
    path.unlink()
    assert registry.scan().models == {}


def test_a_manifest_that_is_just_being_rewritten_does_not_drop_its_model(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT)
    path = write_model(tmp_path / "a", MINIMAL)
    registry.scan()
    path.write_text("")
    assert set(registry.scan().models) == {"m"}
    assert path in registry.catalogue.problems
    assert registry.scan().models == {}
    path.write_text(MINIMAL)
    assert set(registry.scan().models) == {"m"}
    assert registry.catalogue.problems == {}


def test_a_root_that_is_not_there_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    catalogue = ModelRegistry(tmp_path / "absent", common_pb2.MODALITY_CHAT).scan()
    assert (dict(catalogue.models), list(catalogue.problems)) == ({}, [tmp_path / "absent"])


def legacy(root: Path, modality: str, name: str, text: str, *files: str) -> None:
    folder = root / modality / name
    folder.mkdir(parents=True)
    (folder / f"{name}.ini").write_text(text)
    for file in files:
        (folder / file).write_bytes(b"xyz")


LEGACY_INI = "[MODEL CONFIG]\ncontext_window = 4096\nnumber_layers = 33\nmodel_size = 4.45\n"


def test_reads_the_original_systems_folders(tmp_path: Path) -> None:
    legacy(tmp_path, "Chat", "Llama-2-7B", LEGACY_INI, "llama-2-7b.Q4_K_M.gguf")
    legacy(tmp_path, "Images", "Turbo", LEGACY_INI)
    manifest = scan(tmp_path)["Llama-2-7B"]
    assert manifest.modality == common_pb2.MODALITY_CHAT
    assert manifest.engine == "llama"
    assert manifest.files == {"model": tmp_path / "Chat" / "Llama-2-7B" / "llama-2-7b.Q4_K_M.gguf"}
    assert manifest.context_length == 4096
    assert manifest.size_bytes == int(4.45 * 2**30)
    assert manifest.tables["MODEL CONFIG"]["number_layers"] == "33"
    assert set(ModelRegistry(tmp_path, common_pb2.MODALITY_IMAGES).scan().models) == {"Turbo"}


@pytest.mark.parametrize(
    ("text", "files", "complaint"),
    [
        (LEGACY_INI, [], "one .gguf"),
        (LEGACY_INI, ["a.gguf", "b.gguf"], "one .gguf"),
        ("context_window = 1", ["a.gguf"], "no valid ini"),
        ("[MODEL CONFIG]\ncontext_window = long", ["a.gguf"], "must be a number"),
        ("[MODEL CONFIG]\nmodel_size = nan", ["a.gguf"], "must not be"),
    ],
)
def test_says_what_is_wrong_with_an_original_folder(
    tmp_path: Path, text: str, files: list[str], complaint: str
) -> None:
    legacy(tmp_path, "Chat", "m", text, *files)
    (problem,) = ModelRegistry(tmp_path, common_pb2.MODALITY_CHAT).scan().problems.values()
    assert complaint in problem


def test_the_original_layout_takes_a_split_file_as_one(tmp_path: Path) -> None:
    legacy(tmp_path, "Chat", "m", LEGACY_INI, "m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    assert scan(tmp_path)["m"].files["model"].name == "m-00001-of-00002.gguf"
