"""Loading models that see: what is wrong with a projector is said, and never ends the process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from driver import Driver, ask
from tiny_llama import write_model
from tiny_llava import PATCH, picture, write_projector
from trenza_llama.core.gguf import read_head
from trenza_llama.engine import ChatMessage, ChatPrompt, GenerateRequest, LlamaSpec
from trenza_llama.engines.llama import load
from trenza_runtime.worker.engine import ModelLoadError

Start = Callable[..., Driver]

KINDS = ["mlp", "gemma3", "idefics3", "qwen2vl_merger"]


@pytest.fixture(scope="module")
def projector_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projector(tmp_path_factory.mktemp("projector") / "mmproj.gguf")


def fails_to_load(model_path: Path, projector_path: Path) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        load(LlamaSpec(str(model_path), projector_path=str(projector_path), threads=1), lambda part: None)
    assert str(caught.value)
    assert str(projector_path.parent) not in str(caught.value)
    return caught.value


def look(seed: int = 1) -> GenerateRequest:
    return GenerateRequest(ChatPrompt((ChatMessage("user", ("what? ", picture(seed))),)), max_tokens=4)


def test_facts_tell_that_it_sees(start: Start, projector_path: Path) -> None:
    blind, seeing = start(), start(projector_path=str(projector_path), picture_cache_bytes=5_000_000)
    assert "sees" not in blind.engine.facts.properties
    assert seeing.engine.facts.properties["sees"] == "true"


def test_memory_counts_the_projector_and_what_is_kept(start: Start, projector_path: Path) -> None:
    blind = start().engine.facts.memory_bytes["cpu"]
    seeing = start(projector_path=str(projector_path), picture_cache_bytes=0).engine.facts.memory_bytes["cpu"]
    keeping = start(projector_path=str(projector_path), picture_cache_bytes=5_000_000).engine.facts.memory_bytes["cpu"]
    assert seeing - blind > 0.9 * projector_path.stat().st_size
    assert keeping - seeing == 5_000_000


def test_progress_grows_to_the_end(model_path: Path, projector_path: Path) -> None:
    parts: list[float] = []
    spec = LlamaSpec(str(model_path), context_length=64, projector_path=str(projector_path), threads=1)
    load(spec, parts.append).close()
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_what_the_reporter_raises_ends_the_load_of_the_projector(model_path: Path, projector_path: Path) -> None:
    def stop(part: float) -> None:
        if part > 0.95:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(LlamaSpec(str(model_path), projector_path=str(projector_path), threads=1), stop)


def test_llama_cpp_is_silent(start: Start, projector_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert start(projector_path=str(projector_path)).run_one(look()).finished
    assert capfd.readouterr() == ("", "")


def test_a_model_without_a_projector_says_so(start: Start) -> None:
    driver = start()
    assert driver.run_one(look()).failure.reason == "PICTURES_UNSUPPORTED"
    assert driver.run_one(ask("The cat")).finished


def test_a_projector_of_another_width(model_path: Path, tmp_path: Path) -> None:
    error = fails_to_load(model_path, write_projector(tmp_path / "wide.gguf", model_width=96))
    assert error.reason == "MODEL_FILE_INVALID"
    assert "mismatch" in str(error)
    assert "96" in str(error)


def test_a_model_in_the_projectors_place(model_path: Path) -> None:
    assert "not a projector" in str(fails_to_load(model_path, model_path))


def test_a_missing_projector(model_path: Path, tmp_path: Path) -> None:
    error = fails_to_load(model_path, tmp_path / "nowhere.gguf")
    assert error.reason == "MODEL_FILE_MISSING"
    assert "nowhere.gguf" in str(error)


@pytest.mark.parametrize("content", [b"", b"GG", b"GGUF", b"GGUF\x63\0\0\0rest", b"\x7fELF" * 100], ids=repr)
def test_files_that_are_no_gguf(model_path: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(content)
    assert fails_to_load(model_path, path).reason == "MODEL_FILE_INVALID"


@pytest.mark.parametrize("part", [0.001, 0.01, 0.03, 0.2, 0.5, 0.9, 0.9999])
def test_truncated_projectors(model_path: Path, projector_path: Path, tmp_path: Path, part: float) -> None:
    whole = projector_path.read_bytes()
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(whole[: int(len(whole) * part)])
    assert fails_to_load(model_path, path).reason == "MODEL_FILE_INVALID"


@pytest.mark.parametrize("kind", KINDS)
def test_lacking_tensors(start: Start, model_path: Path, tmp_path: Path, kind: str) -> None:
    """Some may lack, a bias for one; none may end the process."""
    names = list(read_head(write_projector(tmp_path / "all.gguf", kind=kind).read_bytes()).tensors)
    loaded = []
    for name in names:
        if name.startswith("v.blk.1."):
            continue  # the same as the layer before
        path = write_projector(tmp_path / "mmproj.gguf", kind=kind, leave_out=name)
        refusal = None
        try:
            driver = start(model_path, projector_path=str(path))
            assert driver.run_one(look()).finished
            loaded.append(name)
        except ModelLoadError as error:
            refusal = error
        assert refusal is None or refusal.reason == "MODEL_FILE_INVALID"
    assert all(name.endswith(".bias") or "_ln." in name for name in loaded)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_other_shapes(model_path: Path, tmp_path: Path, kind: str) -> None:
    head = read_head(write_projector(tmp_path / "all.gguf", kind=kind).read_bytes())
    for name, tensor in head.tensors.items():
        if name.startswith("v.blk.1."):
            continue
        path = write_projector(
            tmp_path / "mmproj.gguf", kind=kind, reshape={name: tuple(2 * side for side in tensor.shape[::-1])}
        )
        assert fails_to_load(model_path, path).reason == "MODEL_FILE_INVALID"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip.vision.patch_size", 0),
        ("clip.vision.patch_size", PATCH // 2),
        ("clip.vision.image_size", 0),
        ("clip.vision.image_size", 100_000),
        ("clip.vision.embedding_length", 0),
        ("clip.vision.embedding_length", 2**31),
        ("clip.vision.attention.head_count", 0),
        ("clip.vision.attention.head_count", 5),
        ("clip.vision.block_count", 0),
        ("clip.vision.block_count", 3),
        ("clip.vision.block_count", 2**32 - 1),
        ("clip.has_vision_encoder", False),
    ],
)
def test_senseless_figures(model_path: Path, projector_path: Path, tmp_path: Path, key: str, value: int) -> None:
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(projector_path.read_bytes())
    change(path, key, value)
    assert fails_to_load(model_path, path).reason == "MODEL_FILE_INVALID"


def change(path: Path, key: str, value: int) -> None:
    reader = gguf.GGUFReader(path, "r+")
    field = reader.fields[key]
    field.parts[field.data[0]][0] = value
    del reader, field


def test_a_figure_of_another_kind(model_path: Path, projector_path: Path, tmp_path: Path) -> None:
    data = bytearray(projector_path.read_bytes())
    at = data.index(b"clip.vision.patch_size") + len(b"clip.vision.patch_size")
    data[at] = 6  # a float of the same size
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(data)
    assert "right kind" in str(fails_to_load(model_path, path))


def test_an_unknown_kind_of_projector(model_path: Path, projector_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(projector_path.read_bytes().replace(b"\x03\0\0\0\0\0\0\0mlp", b"\x03\0\0\0\0\0\0\0zzz"))
    assert "zzz" in str(fails_to_load(model_path, path))


def test_a_failed_load_leaves_the_process_usable(start: Start, model_path: Path, projector_path: Path) -> None:
    before = start(projector_path=str(projector_path))
    fails_to_load(model_path, model_path)
    assert before.run_one(look()).finished


@pytest.mark.parametrize("settings", [{"picture_cache_bytes": -1}, {"picture_max_tokens": 0}])
def test_specs_that_cannot_work_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        LlamaSpec("m.gguf", **settings)  # type: ignore[arg-type]


def test_models_without_a_template_and_chatml_speak_vicuna(start: Start, tmp_path: Path, projector_path: Path) -> None:
    model = write_model(tmp_path / "model.gguf", template=None)
    data = model.read_bytes().replace(b"<|im_start|>", b"<|in_start|>")
    model.write_bytes(data)
    driver = start(model, projector_path=str(projector_path))
    answer = driver.run_one(GenerateRequest(look().prompt, max_tokens=0, echo=True))
    assert answer.text == "USER: what?  ASSISTANT:"
    assert json.dumps(answer.started.image_tokens) == "16"
