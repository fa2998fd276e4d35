from __future__ import annotations

import logging
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Driver, ask
from tiny_llama import write_model
from trenza_llama.engine import LlamaSpec
from trenza_llama.engines.llama import load
from trenza_runtime.worker.engine import ModelLoadError


def fails_to_load(path: Path, **settings: object) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        load(LlamaSpec(str(path), **settings), lambda part: None)  # type: ignore[arg-type]
    assert str(caught.value)
    assert str(path.parent) not in str(caught.value)
    return caught.value


def test_progress_is_reported(model_path: Path) -> None:
    parts: list[float] = []
    load(LlamaSpec(str(model_path), context_length=64), parts.append).close()
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_what_the_reporter_raises_ends_the_load(model_path: Path) -> None:
    def stop(part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(LlamaSpec(str(model_path)), stop)


def test_facts(engine: Driver) -> None:
    facts = engine.engine.facts
    assert facts.slots == 4
    assert facts.memory_bytes["cpu"] > 400_000
    assert facts.properties["context_length"] == "256"
    assert facts.properties["architecture"] == "llama"
    assert facts.properties["name"] == "tiny random llama"


def test_the_default_context_is_what_the_model_was_trained_for(start: Callable[..., Driver]) -> None:
    assert start(context_length=None).engine.facts.properties["context_length"] == "512"


@pytest.mark.parametrize("kv_type", ["f32", "f16", "q8_0", "q4_0"])
def test_kv_types(start: Callable[..., Driver], tmp_path: Path, kv_type: str) -> None:
    path = write_model(tmp_path / "model.gguf", heads=2)
    assert start(path, kv_type=kv_type).run_one(ask("The cat")).finished


def test_settings_that_do_not_suit_the_model_are_explained(model_path: Path) -> None:
    error = fails_to_load(model_path, kv_type="q8_0", context_length=64)
    assert "block size" in str(error)


def test_specs_and_requests_cross_processes() -> None:
    for value in (LlamaSpec("m.gguf", slots=2), ask("hello", stop=("x",), top_logprobs=2)):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  its own bytes


@pytest.mark.parametrize(
    "settings",
    [{"slots": 0}, {"slots": 300}, {"batch_tokens": 0}, {"prefill_tokens": 0}, {"threads": 0}, {"context_length": 1}],
)
def test_specs_that_cannot_work_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        LlamaSpec("m.gguf", **settings)  # type: ignore[arg-type]


def test_a_missing_file(tmp_path: Path) -> None:
    error = fails_to_load(tmp_path / "nowhere.gguf")
    assert error.reason == "MODEL_FILE_MISSING"
    assert "nowhere.gguf" in str(error)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert "cannot be read" in str(fails_to_load(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"GG", b"GGUF", b"GGUF\x63\0\0\0rest", b"\x7fELF" * 100, b"PK\x03\x04" * 50], ids=repr
)
def test_files_that_are_no_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert fails_to_load(path).reason == "MODEL_FILE_INVALID"


@pytest.mark.parametrize("part", [0.00003, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.9999])
def test_truncated_files(tmp_path: Path, model_path: Path, part: float) -> None:
    whole = model_path.read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[: int(len(whole) * part)])
    assert fails_to_load(path).reason == "MODEL_FILE_INVALID"


def test_a_vocabulary_with_a_token_twice(tmp_path: Path, model_path: Path) -> None:
    path = tmp_path / "model.gguf"
    data = model_path.read_bytes()
    twice = data.replace(_string("Ġt"), _string("Ġa"), 1)
    assert twice != data
    path.write_bytes(twice)
    assert "token twice" in str(fails_to_load(path))


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def test_a_corrupt_file(tmp_path: Path, model_path: Path) -> None:
    data = bytearray(model_path.read_bytes())
    data[8:24] = b"\xff" * 16  # the counts of tensors and of metadata
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    assert fails_to_load(path).reason == "MODEL_FILE_INVALID"


def test_a_broken_chat_template_is_found_while_loading(tmp_path: Path) -> None:
    error = fails_to_load(write_model(tmp_path / "model.gguf", template="{% for %}"), context_length=64)
    assert error.reason == "INVALID_TEMPLATE"


def test_a_failed_load_leaves_the_process_usable(tmp_path: Path, start: Callable[..., Driver]) -> None:
    before = start()
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 1000)
    fails_to_load(path)
    assert before.run_one(ask("The cat")).text == start().run_one(ask("The cat")).text


def test_llama_cpp_is_silent(start: Callable[..., Driver], capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    start().run_one(ask("The cat"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 1000)
    fails_to_load(path)
    assert capfd.readouterr() == ("", "")


def test_its_log_can_be_listened_to(start: Callable[..., Driver], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="trenza_llama.native"):
        start()
    assert any("n_ctx" in record.getMessage() for record in caplog.records)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


def test_several_models_at_once(tmp_path: Path, start: Callable[..., Driver]) -> None:
    other = start(write_model(tmp_path / "other.gguf", seed=2))
    one = start()
    assert one.run_one(ask("The cat")).text != other.run_one(ask("The cat")).text
    one.engine.close()
    assert other.run_one(ask("The cat")).finished
