"""Each component runs with only its own dependencies, installed by the very script that fills its image.

The three light ones are tried always; `make test-images`, which sets TRENZA_TEST_IMAGES=all, tries the model services too: that
takes gigabytes and minutes, since it installs PyTorch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from image_trials import REPOSITORY, START_LIMIT_S, UID, Container, Prefix, needed_packages
from mesh import eventually, free_port

FOLDERS = {
    "gateway": "gateway",
    "scheduler": "scheduler",
    "fetch": "fetch",
    "chat": "services/chat",
    "audio": "services/audio",
    "vision": "services/vision",
    "images": "services/images",
}
LIGHT = ("gateway", "scheduler", "fetch")
SERVERS = ("gateway", "scheduler", "chat", "audio", "vision", "images")
STARTERS = {
    "chat": {"starter-chat"},
    "audio": {"starter-whisper", "starter-voice"},
    "vision": {"starter-vision"},
    "images": {"starter-draw"},
}
# Of these libraries, which ones a component has; the others would be somebody else's.
TELLING = {
    *("fastapi", "uvicorn", "boto3", "huggingface-hub", "numpy", "pillow", "llama-cpp-python", "torch", "diffusers"),
    *("transformers", "ctranslate2", "faster-whisper", "onnxruntime"),
}
HAS = {
    "gateway": {"fastapi", "uvicorn", "boto3"},
    "scheduler": set(),
    "fetch": {"boto3", "huggingface-hub"},
    "chat": {"llama-cpp-python", "numpy"},
    "audio": {"ctranslate2", "faster-whisper", "onnxruntime", "numpy", "huggingface-hub"},
    "vision": {"llama-cpp-python", "numpy", "pillow"},
    "images": {"torch", "diffusers", "transformers", "numpy", "pillow", "huggingface-hub"},
}
TOOLS = {
    *(
        "pip",
        "setuptools",
        "wheel",
        "hatchling",
        "editables",
        "cmake",
        "ninja",
        "scikit-build-core",
        "pytest",
        "mypy",
        "ruff",
    ),
    *("moto", "hypothesis", "grpcio-tools", "mypy-protobuf", "trenza-local", "trenza-client", "trenza-recipes"),
}
LIMIT_MIB = {"gateway": 250, "scheduler": 150, "fetch": 300}

TRIED = tuple(FOLDERS) if os.environ.get("TRENZA_TEST_IMAGES") == "all" else LIGHT
pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(params=TRIED)
def prefix(request: pytest.FixtureRequest, prefix_of: Callable[[str], Prefix]) -> Prefix:
    return prefix_of(request.param)


@pytest.fixture
def tmp() -> Iterator[Path]:
    """The only folder that a container may write to."""
    with tempfile.TemporaryDirectory(prefix="trenza-tmp-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_it_holds_what_it_needs_and_nothing_else(
    prefix: Prefix, record_property: Callable[[str, object], None]
) -> None:
    name = prefix.component
    assert {own for own in prefix.installed if own.startswith("trenza-")} == needed_packages(FOLDERS[name])
    assert prefix.installed & TELLING == HAS[name]
    assert prefix.installed & TOOLS == ({"setuptools"} if "torch" in prefix.installed else set()), "PyTorch asks for it"
    assert sorted(path.name for path in prefix.path.iterdir() if path.name != "models") == ["LICENSE", "bin", "venv"]
    record_property("size_mib", round(prefix.size_mib))
    assert prefix.size_mib < LIMIT_MIB.get(name, 12_000)


def test_it_is_no_part_of_the_workspace(prefix: Prefix) -> None:
    """Non-editable: nothing points back to where it was built."""
    program = "import sys, trenza_runtime, json; print(json.dumps([sys.path, trenza_runtime.__file__]))"
    said = subprocess.run(
        [prefix.python, "-c", program], env={}, cwd="/", capture_output=True, text=True, check=True
    ).stdout
    assert str(REPOSITORY) not in said
    assert str(prefix.path / "venv") in said
    links = (prefix.path / "venv" / "lib").glob("*/site-packages/*.pth")
    assert not [path for path in links if str(REPOSITORY) in path.read_text()]


def test_its_starter_models_are_those_of_its_modality(prefix: Prefix) -> None:
    root = prefix.path / "models" / "starter"
    assert {path.name for path in root.glob("*")} == STARTERS.get(prefix.component, set())


def test_no_file_of_it_is_its_users_to_change(prefix: Prefix) -> None:
    others = [path for path in prefix.path.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert [path for path in others if path.stat().st_uid == UID or path.stat().st_mode & 0o002] == []


def environment_of(name: str, tmp: Path) -> dict[str, str]:
    """As the chart gives it, but for ports, which are any free ones here."""
    prefix = f"TRENZA_{name.upper()}_"
    settings = {"GRPC_PORT": "0", "METRICS_PORT": "0", "HEALTH_PORT": "0"}
    if name == "gateway":
        keys = tmp / "api-keys"
        keys.write_text(f"somebody:{hashlib.sha256(b'key').hexdigest()}\n")
        settings |= {"HTTP_PORT": "0", "API_KEYS_FILE": str(keys)}
    if name in STARTERS:
        settings |= {
            "PRELOAD": ",".join(sorted(STARTERS[name])),
            "THREADS": "1",
            "POOL": name,
            "REPLICA_ID": f"{name}-0",
        }
        settings["SCHEDULER_ADDRESS"] = f"127.0.0.1:{free_port()}"
    return {prefix + key: value for key, value in settings.items()}


@pytest.mark.parametrize("name", [name for name in SERVERS if name in TRIED])
def test_it_serves_and_stops(name: str, prefix_of: Callable[[str], Prefix], tmp: Path) -> None:
    prefix = prefix_of(name)
    environment = environment_of(name, tmp)
    containers: list[Container] = []
    try:
        if name == "gateway":  # which is ready when it knows from the scheduler that there is something to serve
            expected = {"TRENZA_SCHEDULER_EXPECTED_MODELS": "chat/starter-chat"}
            scheduler = environment_of("scheduler", tmp) | expected
            containers.append(Container(prefix_of("scheduler"), tmp / "scheduler", scheduler))
            environment["TRENZA_GATEWAY_SCHEDULER_ADDRESS"] = f"127.0.0.1:{containers[0].ports()['grpc_port']}"
        container = Container(prefix, tmp / "tmp", environment)
        containers.append(container)
        ports = container.ports()
        variable = f"TRENZA_{name.upper()}_HEALTH_PORT"
        eventually(lambda: container.is_healthy(**{variable: str(ports["health_port"])}), START_LIMIT_S, 1.0)
        page = f"http://127.0.0.1:{ports.get('metrics_port') or ports['http_port']}/metrics"
        assert "trenza_" in httpx.get(page, timeout=30).text
        assert container.stop() == 0, container.log
        assert "Traceback" not in container.log
        assert not container.is_healthy(**{variable: str(ports["health_port"])})
    finally:
        for container in containers:
            container.close()


def test_the_user_is_a_stranger(prefix_of: Callable[[str], Prefix], tmp: Path) -> None:
    """So that the other tests prove that nothing needs more than a folder for temporary files."""
    prefix = prefix_of("scheduler")
    if not prefix.as_stranger:
        pytest.skip("only root can become another user")
    program = "import os, sys; print(os.getuid(), [os.access(path, os.W_OK) for path in sys.argv[1:]])"
    command = [*prefix.as_stranger, prefix.python, "-c", program, "/", str(prefix.path), str(REPOSITORY), str(tmp)]
    said = subprocess.run(command, env={}, cwd="/", capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"{UID} [False, False, False, True]"


def test_fetch_puts_a_model_in_place(prefix_of: Callable[[str], Prefix], tmp: Path) -> None:
    prefix = prefix_of("fetch")
    source = tmp / "source"
    source.mkdir(mode=0o755)
    (source / "model.toml").write_text('name = "tiny"\nmodality = "chat"\n')
    (tmp / "models").mkdir()
    (tmp / "models").chmod(0o777)
    config = tmp / "fetch.toml"
    config.write_text(f'[[model]]\nname = "tiny"\nmodality = "chat"\nsource = "file://{source}"\n')
    container = Container(prefix, tmp, {}, ["--config", str(config), "--into", str(tmp / "models")])
    assert container.process.wait(60) == 0, container.log
    assert (tmp / "models" / "tiny" / "model.toml").exists()


def test_fetch_has_its_libraries(prefix_of: Callable[[str], Prefix]) -> None:
    program = "import trenza_fetch.sources.hub, trenza_fetch.sources.s3"
    subprocess.run([prefix_of("fetch").python, "-c", program], env={}, cwd="/", check=True)


def test_fetch_says_how_it_is_used(prefix_of: Callable[[str], Prefix], tmp: Path) -> None:
    container = Container(prefix_of("fetch"), tmp, {}, ["--help"])
    assert container.process.wait(60) == 0
    assert "--config" in container.log
