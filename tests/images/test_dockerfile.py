"""The Dockerfile and what goes with it: stages, user, nothing secret, nothing that is not there, every component."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
from test_components import FOLDERS
from trenza_local.components import KINDS

REPOSITORY = Path(__file__).resolve().parents[2]
COMPONENTS = {*KINDS, "fetch"}
COMPILERS = ("build-essential", "gcc", "g++", "cmake", "python3-dev", "git")


@dataclass
class Stage:
    """A stage: what it starts from, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]


def stages() -> dict[str, Stage]:
    """The stages by name; what stands before the first is `""`."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    found = {"": Stage("")}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found.setdefault(name, Stage(base))
        else:
            current = found[next(reversed(found))]
            current.instructions.append((word, rest.strip()))
    return found


def chain(name: str, variant: str) -> list[Stage]:
    """A stage and those that it starts from."""
    found, chained = stages(), []
    while name in found:
        chained.append(found[name])
        name = found[name].base.replace("${VARIANT}", variant)
    return chained


def test_it_is_read_rightly() -> None:
    assert list(stages()) == ["", "build-cpu", "build-cuda", "build", "run-cpu", "run-cuda", "run"]


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_last_stage_has_no_compiler_and_nothing_of_the_build_but_its_result(variant: str) -> None:
    running = chain("run", variant)
    assert len(running) == 2
    commands = " ".join(rest for stage in running for rest in stage.all("RUN"))
    assert not [name for name in COMPILERS if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", commands)]
    assert [rest for stage in running for rest in stage.all("COPY")] == ["--from=build /opt/trenza /opt/trenza"]
    assert "${CUDA_BUILD_IMAGE}" not in running[-1].base


def test_the_compiler_is_where_things_are_built() -> None:
    for variant in ("cpu", "cuda"):
        assert "build-essential" in " ".join(chain("build", variant)[-1].all("RUN"))


def test_it_runs_as_nobody_in_particular_and_stops_as_asked() -> None:
    last = list(stages().values())[-1]
    assert last.all("USER") == ["10001:10001"]
    assert last.instructions.index(("USER", "10001:10001")) > max(
        index for index, (word, _) in enumerate(last.instructions) if word in ("RUN", "COPY")
    )
    assert last.all("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(last.all("ENTRYPOINT")[0]) == ["/opt/trenza/bin/component"]
    (check,) = last.all("HEALTHCHECK")
    assert json.loads(check[check.index("[") :]) == ["/opt/trenza/bin/healthy"]
    assert last.all("WORKDIR") == ["/opt/trenza"], "where models/starter is what the settings' default says"


def test_what_libraries_write_goes_to_the_only_folder_that_can_be_written() -> None:
    (variables,) = list(stages().values())[-1].all("ENV")
    given = dict(pair.split("=", 1) for pair in variables.split())
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "CUDA_CACHE_PATH"):
        assert given[name].startswith("/tmp"), name


def test_nothing_secret_is_a_build_argument_or_a_variable() -> None:
    for stage in stages().values():
        for rest in [*stage.all("ARG"), *stage.all("ENV")]:
            assert not re.search(r"TOKEN|SECRET|PASSWORD|KEY", rest, re.IGNORECASE), rest


def test_labels_say_what_it_is() -> None:
    (labels,) = list(stages().values())[-1].all("LABEL")
    for name in ("title", "description", "licenses", "version", "revision", "created", "source"):
        assert f"org.opencontainers.image.{name}=" in labels


def copied() -> list[str]:
    """What is taken from the repository."""
    lines = [rest.split() for stage in stages().values() for rest in stage.all("COPY")]
    return [path for parts in lines if not parts[0].startswith("--from") for path in parts[:-1]]


@pytest.mark.parametrize("path", copied())
def test_what_is_copied_is_there_and_reaches_the_builder(path: str) -> None:
    assert (REPOSITORY / path).exists()
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert any(path == keep or path.startswith(f"{keep}/") for keep in kept)
    assert "*" in lines


@pytest.mark.parametrize("path", [".env", "gateway/.env", "runtime/__pycache__/x", "services/chat/build/lib", ".venv"])
def test_a_developers_own_files_do_not_reach_the_builder(path: str) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    last = lines[max(index for index, line in enumerate(lines) if line.startswith("!")) + 1 :]
    patterns = [line.removeprefix("**/") for line in last if line]
    reaches = any(path.startswith(line[1:]) for line in lines if line.startswith("!"))
    assert not reaches or any(fnmatch(part, pattern) for part in path.split("/") for pattern in patterns)


def test_every_workspace_package_that_an_image_needs_is_copied() -> None:
    """The script walks the packages' needs; a folder that the Dockerfile forgets would end the build."""
    script = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, 'images'); import install; print(*install.closure(sys.argv[1]))",
    ]
    for folder in FOLDERS.values():
        said = subprocess.run([*script, folder], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        for package in said.split():
            assert f"{package}/pyproject.toml" in copied()
            assert any(package == path or package.startswith(f"{path}/") for path in copied())


def test_there_is_an_image_of_every_component() -> None:
    said = subprocess.run(
        [sys.executable, "images/install.py", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    offered = re.search(r"\{([\w,]+)\}", said.replace("{cpu,cuda}", ""))
    assert offered
    assert set(offered[1].split(",")) == COMPONENTS == set(FOLDERS)


def test_the_bake_file_builds_them_all() -> None:
    text = (REPOSITORY / "docker-bake.hcl").read_text()
    listed = re.search(r"component = \[([^\]]*)\]", text)
    assert listed
    assert set(re.findall(r'"(\w+)"', listed[1])) == COMPONENTS
    cuda = set(re.findall(r'\{ component = "(\w+)"', text))
    assert cuda == COMPONENTS - {"gateway", "scheduler", "fetch"}
    arguments = {line.split("=")[0] for stage in stages().values() for line in stage.all("ARG")}
    for name in re.findall(r"^\s{4}([A-Z_]+)\s+=", text, re.MULTILINE):
        assert name in arguments, f"the Dockerfile knows no {name}"


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    said = subprocess.run([hadolint, "Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_no_registry_is_named() -> None:
    for name in ("Dockerfile", "docker-bake.hcl", "images/install.py"):
        assert not re.findall(r"\b[\w-]+\.(?:io|com|org|dev)/", (REPOSITORY / name).read_text())
