"""Models from a hub."""

from __future__ import annotations

from typing import Any

import pytest
from fake_hub import COMMIT, FakeHub
from fetch_runs import Fetching, sha256
from trenza_fetch.failures import ExitCode

WEIGHTS = b"weights" * 100_000
MANIFEST = b'name = "tiny"\nmodality = "chat"\n[files]\nmodel = "tiny.gguf"\n'
FILES = {".gitattributes": b"x", "README.md": b"# Tiny\n", "model.toml": MANIFEST, "tiny.gguf": WEIGHTS}


@pytest.fixture
def fetching(fetching: Fetching, hub: FakeHub) -> Fetching:
    """It asks the hub of the test."""
    hub.repositories["org/tiny"] = dict(FILES)
    hub.large.add("tiny.gguf")
    fetching.environment = {"HF_ENDPOINT": hub.url}
    return fetching


def tiny(source: str = "hub://org/tiny", **more: Any) -> dict[str, Any]:
    return {"name": "tiny", "modality": "chat", "source": source, **more}


def test_a_repository_becomes_a_model(fetching: Fetching, hub: FakeHub) -> None:
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.DONE, run.events
    assert fetching.visible() == {f"tiny/{name}": content for name, content in FILES.items() if name[0] != "."}
    assert not (fetching.root / "tiny" / ".cache").exists(), "the library's own files stay out of the model"
    asked = len(hub.requests)
    assert fetching.run(tiny()).process.returncode == ExitCode.DONE
    assert len(hub.requests) == asked, "a model that is in place needs no network"


def test_a_revision_a_folder_and_patterns(fetching: Fetching, hub: FakeHub) -> None:
    hub.revisions.add("v2")
    hub.repositories["org/tiny"] |= {f"q4/{name}": content for name, content in FILES.items()}
    hub.repositories["org/tiny"]["q4x/other"] = b"other"
    run = fetching.run(tiny("hub://org/tiny@v2/q4", files=["*.gguf", "model.toml"]))
    assert run.process.returncode == ExitCode.DONE, run.events
    assert fetching.visible() == {"tiny/model.toml": MANIFEST, "tiny/tiny.gguf": WEIGHTS}
    assert sorted(hub.downloads) == ["q4/model.toml", "q4/tiny.gguf"]
    assert f"/org/tiny/resolve/{COMMIT}/q4/tiny.gguf" in hub.requests, "all files are of one commit"


def test_a_single_file(fetching: Fetching, hub: FakeHub) -> None:
    run = fetching.run(tiny("hub://org/tiny/tiny.gguf", manifest=MANIFEST.decode()))
    assert run.process.returncode == ExitCode.DONE, run.events
    assert sorted(fetching.visible()) == ["tiny/model.toml", "tiny/tiny.gguf"]


def test_the_token_is_sent(fetching: Fetching, hub: FakeHub) -> None:
    hub.token = "hf_secret"
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.REFUSED
    assert run.why == "there is no repository org/tiny, or HF_TOKEN may not read it"
    hub.gated = True
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.REFUSED
    assert run.why == "org/tiny is gated: accept its terms and set HF_TOKEN"
    fetching.environment["HF_TOKEN"] = "hf_secret"
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.DONE
    assert "hf_secret" not in str(run.events)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("hub://org/absent", "there is no repository org/absent, or HF_TOKEN may not read it"),
        ("hub://org/tiny@v9", "org/tiny has no revision v9"),
        ("hub://org/tiny/absent", "there is nothing at 'absent' of org/tiny"),
    ],
)
def test_what_the_hub_does_not_have(fetching: Fetching, source: str, why: str) -> None:
    run = fetching.run(tiny(source))
    assert run.process.returncode == ExitCode.REFUSED
    assert run.why == why
    assert not run.said("trying again")


def test_a_busy_hub_is_asked_again(fetching: Fetching, hub: FakeHub) -> None:
    hub.failures = 1
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.DONE, run.events


def test_a_hub_that_is_not_there(fetching: Fetching) -> None:
    fetching.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.UNREACHABLE
    assert "the hub does not answer" in run.why
    assert sum(event["event"] == "trying again" for event in run.events) == 2


def test_a_file_that_breaks_off_is_gone_on_with(fetching: Fetching, hub: FakeHub) -> None:
    weights = WEIGHTS * 40
    hub.repositories["org/tiny"]["tiny.gguf"] = weights
    hub.cuts["tiny.gguf"] = 1
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.DONE, run.events
    assert fetching.visible()["tiny/tiny.gguf"] == weights
    assert hub.ranges == [f"bytes={10 * 2**20}-"], "the library writes 10 MiB at a time"


def test_the_hubs_own_checksum_is_checked_too(fetching: Fetching, hub: FakeHub) -> None:
    hub.said_sha256["tiny.gguf"] = sha256(b"what was meant")
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.CHECKSUM
    assert "and the source says" in run.why
    assert fetching.visible() == {}


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a\\..\\evil"])
def test_a_hub_with_hostile_names_is_not_trusted(fetching: Fetching, hub: FakeHub, name: str) -> None:
    hub.repositories["org/tiny"][name] = b"evil"
    run = fetching.run(tiny())
    assert run.process.returncode == ExitCode.REFUSED
    assert "the source has a file named" in run.why
    assert hub.downloads == []
    assert not list(fetching.folder.rglob("*evil*"))
