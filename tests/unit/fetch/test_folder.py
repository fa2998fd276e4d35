"""Models from a mounted folder, and what holds for every source: whole, checked, idempotent."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fetch_runs import WORK, Fetching, sha256
from trenza.common.v1 import common_pb2
from trenza_fetch.failures import ExitCode
from trenza_runtime.models.registry import ModelRegistry


def tiny(folder: Path, **more: Any) -> dict[str, Any]:
    return {"name": "tiny", "modality": "chat", "source": f"file://{folder}", **more}


def test_a_model_is_copied_and_a_service_finds_it(fetching: Fetching, model: Path) -> None:
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.DONE
    assert fetching.visible() == {
        f"tiny/{name}": (model / name).read_bytes() for name in ("README.md", "model.toml", "weights/tiny.gguf")
    }
    catalogue = ModelRegistry(fetching.root, common_pb2.MODALITY_CHAT).scan()
    assert list(catalogue.models) == ["tiny"]
    assert not catalogue.problems
    assert fetching.drafts() == []


def test_a_model_that_is_in_place_is_left_alone_without_its_source(fetching: Fetching, model: Path) -> None:
    assert fetching.run(tiny(model)).process.returncode == ExitCode.DONE
    before = (fetching.root / "tiny").stat().st_ino
    shutil.rmtree(model)
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.DONE
    assert run.said("a model is in place already")
    assert (fetching.root / "tiny").stat().st_ino == before


def test_a_model_that_lost_a_file_is_fetched_again(fetching: Fetching, model: Path) -> None:
    fetching.run(tiny(model))
    (fetching.root / "tiny" / "weights" / "tiny.gguf").write_bytes(b"cut")
    assert fetching.run(tiny(model)).process.returncode == ExitCode.DONE
    assert fetching.visible()["tiny/weights/tiny.gguf"] == (model / "weights" / "tiny.gguf").read_bytes()


def test_only_the_files_that_are_asked_for(fetching: Fetching, model: Path) -> None:
    assert fetching.run(tiny(model, files=["model.toml", "weights/"])).process.returncode == ExitCode.DONE
    assert sorted(fetching.visible()) == ["tiny/model.toml", "tiny/weights/tiny.gguf"]


def test_a_single_file_with_a_manifest_from_the_configuration(fetching: Fetching, model: Path) -> None:
    manifest = 'name = "tiny"\nmodality = "chat"\n[files]\nmodel = "tiny.gguf"\n'
    run = fetching.run(tiny(model / "weights" / "tiny.gguf", manifest=manifest))
    assert run.process.returncode == ExitCode.DONE
    assert fetching.visible()["tiny/model.toml"].decode() == manifest
    assert sorted(fetching.visible()) == ["tiny/model.toml", "tiny/tiny.gguf"]


def test_the_right_checksum_is_taken_and_the_wrong_one_refused(fetching: Fetching, model: Path) -> None:
    name, content = "weights/tiny.gguf", (model / "weights" / "tiny.gguf").read_bytes()
    run = fetching.run(tiny(model, sha256={name: sha256(b"something else")}))
    assert run.process.returncode == ExitCode.CHECKSUM
    assert f"{name!r} has the SHA-256 {sha256(content)}" in run.why
    assert fetching.visible() == {}
    assert fetching.drafts() == []
    assert fetching.run(tiny(model, sha256={name: sha256(content)})).process.returncode == ExitCode.DONE


def test_one_bad_model_does_not_keep_the_others_out(fetching: Fetching, model: Path) -> None:
    bad = {"name": "bad", "modality": "chat", "source": f"file://{model}-absent"}
    assert fetching.run(bad, tiny(model)).process.returncode == ExitCode.REFUSED
    assert "tiny/model.toml" in fetching.visible()


def test_another_configuration_replaces_the_model_and_keeps_the_old_files_for_a_while(
    fetching: Fetching, model: Path
) -> None:
    fetching.run(tiny(model))
    with (fetching.root / "tiny" / "README.md").open() as still_open:
        (model / "README.md").write_text("# Newer\n")
        assert fetching.run(tiny(model, files=["*"])).process.returncode == ExitCode.DONE
        assert still_open.read() == "# Tiny\n"
    assert fetching.visible()["tiny/README.md"] == b"# Newer\n"
    (replaced,) = (fetching.root / WORK / "replaced").iterdir()
    assert (replaced / "README.md").read_text() == "# Tiny\n"
    fetching.limits["keep_replaced_s"] = 0
    fetching.run(tiny(model, files=["*", "README.md"]))
    assert replaced not in list((fetching.root / WORK / "replaced").iterdir())


def test_a_failed_replacement_leaves_the_old_model(fetching: Fetching, model: Path) -> None:
    fetching.run(tiny(model))
    before = fetching.visible()
    run = fetching.run(tiny(model, sha256={"README.md": "0" * 64}))
    assert run.process.returncode == ExitCode.CHECKSUM
    assert fetching.visible() == before


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        (None, "has no model.toml"),
        ("name = ", "no valid TOML"),
        ('name = "tiny"\nmodality = "chat"\n[files]\nmodel = "absent.gguf"\n', "'absent.gguf', which is not there"),
        ('name = "tiny"\nmodality = "chat"\n[files]\nmodel = "/etc/passwd"\n', "must lie inside the model's folder"),
        ('name = "other"\nmodality = "chat"\n', "is called 'other'"),
        ('name = "tiny"\nmodality = "audio"\n', "another modality than chat"),
    ],
)
def test_what_is_no_model_never_becomes_visible(
    fetching: Fetching, model: Path, manifest: str | None, complaint: str
) -> None:
    (model / "model.toml").unlink()
    if manifest is not None:
        (model / "model.toml").write_text(manifest)
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.MODEL
    assert complaint in run.why
    assert fetching.visible() == {}


def test_links_inside_are_followed_and_those_that_lead_out_refused(fetching: Fetching, model: Path) -> None:
    (model / "again.gguf").symlink_to("weights/tiny.gguf")
    (model / "copy").symlink_to("weights")
    assert fetching.run(tiny(model)).process.returncode == ExitCode.DONE
    copied = fetching.root / "tiny" / "again.gguf"
    assert copied.read_bytes() == (model / "weights" / "tiny.gguf").read_bytes()
    assert not copied.is_symlink()
    assert "tiny/copy/tiny.gguf" in fetching.visible()


@pytest.mark.parametrize("target", ["/etc/passwd", "../other/secret", "/etc"])
def test_a_link_that_leads_out_is_refused(fetching: Fetching, model: Path, target: str) -> None:
    (model.parent / "other").mkdir()
    (model.parent / "other" / "secret").write_text("secret")
    (model / "innocent.txt").symlink_to(target)
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.REFUSED
    assert "'innocent.txt' is a link that leads out" in run.why
    assert fetching.visible() == {}


def test_a_link_to_itself_ends(fetching: Fetching, model: Path) -> None:
    (model / "loop").symlink_to(".")
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.REFUSED
    assert "deeper than" in run.why


def test_what_is_no_file_is_refused(fetching: Fetching, model: Path) -> None:
    os.mkfifo(model / "pipe")
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.REFUSED
    assert "'pipe' is no ordinary file" in run.why


def test_hostile_names_are_refused(fetching: Fetching, model: Path) -> None:
    (model / "a\nb").write_text("x")
    assert fetching.run(tiny(model)).process.returncode == ExitCode.REFUSED
    assert fetching.visible() == {}


def test_a_folder_that_somebody_else_made_is_not_touched(fetching: Fetching, model: Path) -> None:
    (fetching.root / "tiny").mkdir()
    (fetching.root / "tiny" / "precious").write_text("mine")
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.VOLUME
    assert "was not fetched; move it away" in run.why
    assert fetching.visible() == {"tiny/precious": b"mine"}


def test_a_link_in_the_models_place_is_not_followed(fetching: Fetching, model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (fetching.root / "tiny").symlink_to(tmp_path / "elsewhere")
    assert fetching.run(tiny(model)).process.returncode == ExitCode.VOLUME
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_root_that_is_not_mounted(fetching: Fetching, model: Path) -> None:
    fetching.root.rmdir()
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.VOLUME
    assert "is the volume mounted?" in run.why


def test_a_file_that_the_volume_cannot_take(fetching: Fetching, model: Path) -> None:
    run = fetching.start(tiny(model), file_bytes=200_000)
    assert run.code() == ExitCode.VOLUME
    assert "the models root cannot be written: File too large" in run.why
    assert fetching.visible() == {}
    assert fetching.run(tiny(model)).process.returncode == ExitCode.DONE, "and it goes on when there is room"


@pytest.fixture
def small_volume(fetching: Fetching) -> Iterator[Path]:
    """The models root is a volume of 2 MiB; only root can make one."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(fetching.root)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a volume cannot be mounted here")
    yield fetching.root
    subprocess.run(["umount", str(fetching.root)], check=True)


def test_a_volume_that_is_too_small_is_found_out_beforehand(
    fetching: Fetching, model: Path, small_volume: Path
) -> None:
    (model / "more.bin").write_bytes(bytes(3 * 2**20))
    run = fetching.run(tiny(model))
    assert run.process.returncode == ExitCode.VOLUME
    assert "are to be fetched, and the volume has 0.00 GiB left" in run.why
    assert not run.said("fetched")
    assert fetching.visible() == {}
