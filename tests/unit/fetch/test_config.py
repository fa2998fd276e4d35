"""The configuration: what is wrong with it is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from fetch_runs import Fetching
from trenza_fetch.config import ModelConfig, read_config
from trenza_fetch.failures import ExitCode, FetchFailure
from trenza_fetch.sources.address import BucketAddress, FolderAddress, HubAddress, parse_address

GOOD = '[[model]]\nname = "tiny"\nmodality = "chat"\nsource = "hub://org/tiny"\n'


def test_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text(
        GOOD
        + 'files = ["*.gguf"]\nmanifest = """\nname = "tiny"\nmodality = "chat"\n"""\n'
        + f'[model.sha256]\n"tiny.gguf" = "{"a" * 64}"\n[limits]\nattempts = 7\n'
    )
    config = read_config(path)
    assert config.limits.attempts == 7
    (model,) = config.model
    assert (model.name, model.modality, model.files) == ("tiny", "chat", ("*.gguf",))
    assert model.sha256 == {"tiny.gguf": "a" * 64}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[model]]\n", "model 1 name is missing"),
        (GOOD + GOOD.replace('"tiny"', '"a b"'), "model 2 name is 'a b'"),
        (GOOD + 'colour = "red"\n', "there is no such key as model 1 colour"),
        ("colour = 1\n", "there is no such key as colour"),
        (GOOD.replace("chat", "smell"), "model 1 modality is 'smell'"),
        (GOOD.replace("hub://org/tiny", "http://x"), "model 1 source: a source begins with hub://, s3:// or file://"),
        (GOOD.replace("hub://org/tiny", "hub://tiny"), "hub://org/repo[@revision][/path]"),
        (GOOD.replace("hub://org/tiny", "hub://org/tiny/../x"), "no .."),
        (GOOD.replace("hub://org/tiny", "s3://b/../x"), "s3://bucket[/prefix]"),
        (GOOD.replace("hub://org/tiny", "s3://bucket/../x"), "no .."),
        (GOOD.replace("hub://org/tiny", "file://mnt"), "file:///absolute/path"),
        (GOOD.replace("hub://org/tiny", "file:///mnt/../etc"), "without .."),
        (GOOD + '[model.sha256]\n"a" = "123"\n', "model 1 sha256 a is '123'"),
        (GOOD + "manifest = 'name ='\n", "model 1: the manifest is no valid TOML"),
        (GOOD + "manifest = 'name = \"other\"'\n", "the manifest says name = 'other', and the model is 'tiny'"),
        (GOOD + GOOD, "a model is there twice"),
        (
            GOOD.replace("tiny", "a/b", 1) + GOOD.replace("tiny", "a:b", 1),
            "'a/b' and 'a:b' would lie in the same folder",
        ),
        (GOOD + "[limits]\nattempts = 0\n", "limits attempts is '0'"),
        ("model = 3", "model is '3'"),
        ("[[model", "it is no valid TOML"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text(text)
    with pytest.raises(FetchFailure) as failure:
        read_config(path)
    assert failure.value.code == ExitCode.CONFIGURATION
    assert complaint in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hub://org/repo", HubAddress("org/repo", "main", "")),
        ("hub://org/repo@v1.0", HubAddress("org/repo", "v1.0", "")),
        ("hub://org/repo@refs%2Fpr%2F1/onnx/", HubAddress("org/repo", "refs/pr/1", "onnx")),
        ("hub://Org-1/repo_2.x/a/b.gguf", HubAddress("Org-1/repo_2.x", "main", "a/b.gguf")),
        ("s3://bucket", BucketAddress("bucket", "")),
        ("s3://my-bucket.x/models/tiny/", BucketAddress("my-bucket.x", "models/tiny")),
        ("file:///mnt/models", FolderAddress("/mnt/models")),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_address(text) == address


def test_what_is_to_be_fetched_has_a_fingerprint() -> None:
    model = ModelConfig(name="tiny", modality="chat", source="hub://org/tiny")
    assert model.fingerprint == ModelConfig(name="tiny", modality="chat", source="hub://org/tiny").fingerprint
    assert model.fingerprint != ModelConfig(name="tiny", modality="chat", source="hub://org/tiny@v2").fingerprint


def test_the_program_checks_without_fetching(fetching: Fetching, tmp_path: Path) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text(GOOD)
    run = fetching.start_with(path, 0, "--check")
    assert run.code() == ExitCode.DONE
    path.write_text(GOOD + "colour = 1\n")
    run = fetching.start_with(path, 0, "--check")
    assert run.code() == ExitCode.CONFIGURATION
    assert "there is no such key as model 1 colour" in run.why
    assert fetching.visible() == {}


def test_a_configuration_that_is_not_there(fetching: Fetching, tmp_path: Path) -> None:
    run = fetching.start_with(tmp_path / "absent.toml")
    assert run.code() == ExitCode.CONFIGURATION
    assert "it cannot be read: No such file or directory" in run.why


def test_nothing_to_fetch_is_fine(fetching: Fetching) -> None:
    assert fetching.start().code() == ExitCode.DONE
